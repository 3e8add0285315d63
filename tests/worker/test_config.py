from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest

import geartrain
from geartrain import blocking
from geartrain.errors import LocalProtocolError
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.config import make_client_id
from tests.worker import process_functions


async def run(job: WorkerJob) -> None:
    pass


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1, got 0"),
        ({"concurrency": 1.5}, TypeError, "concurrency must be a whole number, got 1.5"),
        ({"heartbeat": 0}, ValueError, "heartbeat must be a number of seconds above 0, got 0"),
        ({"heartbeat": "30"}, TypeError, "heartbeat must be a number of seconds, got '30'"),
        ({"connect_timeout": -1}, ValueError, "connect_timeout .* got -1"),
        ({"regrab_interval": float("inf")}, ValueError, "regrab_interval .* got inf"),
        ({"regrab_interval": None}, TypeError, "regrab_interval .* got None"),
        ({"max_packet_size": 1}, ValueError, "max_packet_size must be from 1024 to 4294959104, got 1"),
        ({"client_id": ""}, ValueError, "client_id must have 1 to 127 bytes, got ''"),
        ({"client_id": "é" * 64}, ValueError, "client_id must have 1 to 127 bytes, got 'éé"),
        ({"grace": -1}, ValueError, "grace must be a number of seconds above 0, got -1"),
        ({"max_jobs": 0}, ValueError, "max_jobs must be at least 1, got 0"),
        ({"max_memory": "1G"}, TypeError, "max_memory must be a whole number, got '1G'"),
        ({"on_start": 5}, TypeError, "on_start is a function, got 5"),
        ({"on_stop": "f"}, TypeError, "on_stop is a function, got 'f'"),
        ({"format_exception": 5}, TypeError, "format_exception is a function, got 5"),
        (
            {"middleware": [lambda job, call: call(job)]},
            TypeError,
            "middleware is a coroutine function .* got <function",
        ),
        ({"logger": "app"}, TypeError, "logger must be a logging.Logger, got 'app'"),
        ({"prefix": 5}, TypeError, "prefix must be text, got 5"),
        ({"tls": True}, TypeError, "tls must be an ssl.SSLContext or None, got True"),
        ({"client_id": "a\0b"}, ValueError, "client_id must not contain a NUL"),
        ({"prefix": "a\0b"}, ValueError, "the prefix must not contain a NUL"),
        ({"job_servers": []}, ValueError, "at least one job server, got none"),
        ({"job_servers": ["host:0"]}, ValueError, "port must be a number from 1 to 65535, got '0'"),
        ({"job_servers": [4730]}, TypeError, "got 4730"),
    ],
)
def test_an_invalid_option_is_rejected_with_its_value(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Worker(**options)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", ValueError, "1 to 512 bytes with its prefix, got 0 in ''"),
        ("é" * 256 + "x", ValueError, "1 to 512 bytes with its prefix, got 513"),
        ("a\0b", ValueError, r"the name of a function must not contain a NUL, got 'a\\x00b'"),
        (b"reverse", TypeError, "the name of a function is text, got b'reverse'"),
    ],
)
def test_a_function_name_that_is_invalid_in_gearman_is_rejected(
    name: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Worker().function(name)(run)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds above 0, got 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, got '1'"),
        ({"on_timeout": "retry"}, ValueError, "on_timeout must be 'exception' or 'fail', got 'retry'"),
        ({"can_do_timeout": 0.5}, ValueError, "can_do_timeout must be from 1 second to 24 days, got 0.5"),
        ({"can_do_timeout": 1e12}, ValueError, "can_do_timeout must be from 1 second to 24 days, got 1000000000000.0"),
        ({"can_do_timeout": 1e308}, ValueError, "can_do_timeout must be from 1 second to 24 days, got 1e\\+308"),
    ],
)
def test_an_invalid_function_option_is_rejected(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Worker().function("f", **options)(run)


@pytest.mark.parametrize("call", [None, 5, b"f"])
def test_an_object_that_is_not_callable_is_rejected(call: Any) -> None:
    with pytest.raises(TypeError, match="'f' needs a function, got"):
        Worker().function("f")(call)


def test_the_prefix_counts_towards_the_length_of_a_name() -> None:
    Worker().function("x" * 512)(run)
    with pytest.raises(ValueError, match="got 513"):
        Worker(prefix="p").function("x" * 511)(run)


def test_a_function_name_must_be_unique() -> None:
    worker = Worker()
    worker.function("f")(run)
    with pytest.raises(ValueError, match="the worker already has a function 'f'"):
        worker.function("f")(run)
    assert worker.functions == ("f",)


class Callee:
    async def __call__(self, job: WorkerJob) -> None:
        pass


@pytest.mark.parametrize("call", [run, Callee(), functools.partial(run)])
def test_any_callable_that_returns_a_coroutine_is_accepted(call: Callable[[WorkerJob], Any]) -> None:
    assert Worker().function("f")(call) is call


def test_the_addresses_are_iterated_once() -> None:
    assert Worker(["a", "b:1", "a:4730"]).job_servers == ("a:4730", "b:1")
    assert Worker().job_servers == ("127.0.0.1:4730",)


async def test_a_worker_without_functions_does_not_run() -> None:
    with pytest.raises(LocalProtocolError, match="the worker has no functions"):
        await Worker().run()


def test_a_function_is_registered_by_its_own_name_without_parentheses() -> None:
    for worker in (Worker(), blocking.Worker()):

        @worker.function
        def resize(job: WorkerJob) -> bytes:
            return job.workload

        assert worker.functions == ("resize",)
        assert callable(resize)
        with pytest.raises(TypeError, match="no name of its own"):
            worker.function(lambda job: b"")
        with pytest.raises(TypeError, match="no name of its own"):
            worker.function(functools.partial(print))


def test_a_worker_shows_its_servers_functions_and_state() -> None:
    for worker in (Worker(["a", "b:1"]), blocking.Worker(["a", "b:1"])):
        assert repr(worker) == "<Worker a:4730, b:1, no functions, idle>"
        worker.function("reverse")(run)
        worker.function("resize")(run)
        assert repr(worker) == "<Worker a:4730, b:1, functions reverse, resize, idle>"


INVALID: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "timeout": ({"timeout": "5"}, TypeError, "timeout must be a number of seconds, got '5'"),
    "can_do_timeout": ({"can_do_timeout": 0.1}, ValueError, "can_do_timeout must be from 1 second"),
    "on_timeout": ({"on_timeout": "explode"}, ValueError, "on_timeout must be 'exception' or 'fail', got 'explode'"),
    "processes": ({"processes": 0}, ValueError, "processes must be at least 1, got 0"),
}


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
@pytest.mark.parametrize(("options", "error", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_option_of_a_function_fails_where_it_is_written(
    package: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        package.Worker().function("f", **options)  # not when the decorator is applied


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
def test_a_name_in_use_fails_where_it_is_written(package: Any) -> None:
    worker = package.Worker()
    worker.function("f")(run)
    with pytest.raises(ValueError, match="already has a function 'f'"):
        worker.function("f")


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
@pytest.mark.parametrize("call", [lambda job: b"", functools.partial(lambda job: b"")])
def test_a_function_without_a_name_cannot_run_in_processes(package: Any, call: Any) -> None:
    with pytest.raises(TypeError, match="'f' runs in processes, so it has to be a function that a module has by name"):
        package.Worker().function("f", processes=1)(call)


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
def test_processes_that_can_never_be_used_are_a_warning_where_they_are_written(package: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"'f' has processes=4, .* at most 1 at a time \(concurrency=1\)") as caught:
        package.Worker(concurrency=1).function("f", processes=4)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
def test_the_concurrency_defaults_to_the_largest_number_of_processes(package: Any) -> None:
    worker = package.Worker()
    assert worker.concurrency == 1
    for name, processes in (("a", 2), ("b", 3), ("c", None)):
        worker.function(name, processes=processes)(process_functions.pid)
    assert worker.concurrency == 3
    assert package.Worker(concurrency=2).concurrency == 2


def test_the_default_client_id_is_not_longer_than_gearmand_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)
    assert make_client_id() == f"{'h' * 200}"[: 126 - len(str(os.getpid()))] + f":{os.getpid()}"
