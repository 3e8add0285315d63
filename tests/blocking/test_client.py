"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from geartrain import (
    AliasInUseError,
    ClientDisconnectedError,
    JobExceptionError,
    JobHandle,
    LocalProtocolError,
    NoServersError,
    Task,
    UnknownAliasError,
)
from geartrain.blocking import Client, JobServer, Worker, get_client, post, spawn
from tests.support.eventually import wait_until
from tests.support.gearmand import free_port
from tests.support.job_server import AnyJobServer
from tests.support.listening_ports import listens

pytestmark = pytest.mark.usefixtures("worker")


def test_a_job_returns_its_result(client: Client) -> None:
    assert client.do("reverse", b"abc") == b"cba"


def test_a_job_that_fails_raises_in_the_caller(client: Client) -> None:
    with pytest.raises(JobExceptionError, match="no such colour"):
        client.do("fail", b"no such colour")


def test_a_wrong_option_raises_in_the_caller_and_leaves_the_client_usable(client: Client) -> None:
    with pytest.raises(TypeError, match="timeout must be"):
        client.do("reverse", timeout="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout must be"):
        client.submit("reverse", timeout="5")  # type: ignore[arg-type]
    assert client.do("reverse", b"abc") == b"cba"


def test_a_workload_over_the_limit_raises_in_the_line_that_submits_it(job_server: AnyJobServer) -> None:
    with Client(job_server.address, max_packet_size=1024) as client:
        with pytest.raises(ValueError, match="max_packet_size 1024"):
            client.submit("reverse", bytes(1025))
        assert client.submit("reverse", b"abc").result(10) == b"cba"


def test_a_server_that_is_away_is_an_error() -> None:
    with Client(f"127.0.0.1:{free_port()}") as client, pytest.raises(NoServersError):
        client.do("reverse", b"abc")


def test_many_threads_share_one_connection(client: Client) -> None:
    wrong: list[bytes] = []

    def work(number: int) -> None:
        for count in range(20):
            workload = b"%d-%d" % (number, count)
            if client.do("reverse", workload) != workload[::-1]:
                wrong.append(workload)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert client.statistics().servers.keys() == {client.job_servers[0]}


def test_background_jobs_queries_and_statistics(client: Client) -> None:
    handle = client.do_background("reverse", b"abc", unique="one")
    assert isinstance(handle, JobHandle)
    wait_until(lambda: not client.get_status(handle).known)
    assert not client.get_status_unique("another").known
    assert not client.cancel(handle)
    assert client.workers_for("reverse") == 1
    assert all(isinstance(seconds, float) for seconds in client.ping().values())
    client.drain(5)
    assert client.statistics().completed == 1


def test_another_loop_may_run_in_the_callers_thread(client: Client) -> None:
    """As in a notebook."""

    async def call() -> bytes:
        return client.do("reverse", b"abc")

    assert asyncio.run(call()) == b"cba"


def test_on_submit_is_called_in_the_context_of_whoever_submits(job_server: AnyJobServer) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    def on_submit(task: Task) -> Task:
        return task.replace(workload=f"{variable.get()}-{task.workload.decode()}")

    with Client(job_server.address, on_submit=on_submit) as client:
        variable.set("ab")
        assert client.do("reverse", b"1") == b"1-ba"
        assert client.submit("reverse", b"2").result(10) == b"2-ba"
        assert list(client.map("reverse", [b"3", b"4"])) == [b"3-ba", b"4-ba"]
        assert isinstance(client.do_background("reverse", b"5"), JobHandle)
        assert contextvars.Context().run(client.do, "reverse", b"6") == b"6-enon"


# Closing.


def test_disconnecting_ends_the_jobs_and_leaves_the_client_usable(client: Client) -> None:
    job = client.submit("no worker has this", b"")
    job.created(10)
    client.disconnect_all()
    with pytest.raises(ClientDisconnectedError):
        job.result(10)
    assert client.do("reverse", b"abc") == b"cba"


def test_closing_ends_a_call_of_another_thread(job_server: AnyJobServer) -> None:
    client = Client(job_server.address)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.do("no worker has this")
        except ClientDisconnectedError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: client.statistics().outstanding)
    client.close()
    thread.join()
    assert len(errors) == 1


@pytest.mark.parametrize("is_used", [False, True])
def test_a_closed_client_is_closed_for_good(job_server: AnyJobServer, is_used: bool) -> None:
    client = Client(job_server.address)
    if is_used:
        client.do("reverse", b"abc")
    client.close()
    client.close()
    calls: list[Callable[[], object]] = [
        lambda: client.submit("reverse"),
        lambda: client.do("reverse"),
        lambda: client.map("reverse", []),
        lambda: client.set_job_servers("127.0.0.1:1"),
        client.ping,
    ]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="this Client is closed"):
            call()
    assert client.statistics().completed == is_used


def test_a_client_that_was_never_used_starts_no_thread(job_server: AnyJobServer) -> None:
    before = threading.active_count()
    with Client(job_server.address) as client:
        client.set_job_servers("127.0.0.1:1")
        assert client.job_servers == ("127.0.0.1:1",)
    assert threading.active_count() == before


# Callbacks.


def test_callbacks_run_in_the_context_of_the_caller_in_another_thread(client: Client) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, bool]] = []
    variable.set("request 1")
    caller = threading.get_ident()
    job = client.submit(
        "reverse", b"abc", on_complete=lambda _: seen.append((variable.get(), threading.get_ident() == caller))
    )
    assert job.result(10) == b"cba"
    wait_until(lambda: seen)
    assert seen == [("request 1", False)]


def test_a_callback_may_submit_but_not_wait(client: Client) -> None:
    outcomes: list[object] = []

    def callback(_: bytes) -> None:
        later = client.submit("reverse", b"later")
        later.add_done_callback(lambda job: outcomes.append(job.result()))
        waits: list[Callable[[], object]] = [lambda: client.do("reverse"), later.result, later.created, client.close]
        for wait in [*waits, later.updates]:
            try:
                wait()
            except LocalProtocolError as error:
                outcomes.append(error)

    client.do("reverse", b"abc", on_complete=callback)
    wait_until(lambda: len(outcomes) == 6)
    assert [type(outcome) for outcome in outcomes[:5]] == [LocalProtocolError] * 5
    assert "a callback cannot wait" in str(outcomes[0])
    assert outcomes[5] == b"retal"


# Several results.


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_map_yields_results_in_order(client: Client, limit: int) -> None:
    workloads = [b"%d" % number for number in range(200)]
    assert list(client.map("reverse", workloads, limit=limit)) == [workload[::-1] for workload in workloads]


def test_a_map_draws_from_an_endless_source_in_the_callers_thread(client: Client) -> None:
    threads: set[int] = set()

    def source() -> Iterator[bytes]:
        for number in itertools.count():
            threads.add(threading.get_ident())
            yield client.do("reverse", b"%d" % number)  # which a loop that draws could not wait for

    results = client.map("reverse", source(), limit=8)
    assert list(itertools.islice(results, 20)) == [b"%d" % number for number in range(20)]
    results.close()  # type: ignore[attr-defined]
    client.drain(10)
    assert threads == {threading.get_ident()}


def test_a_map_raises_the_first_failure_in_its_place(client: Client) -> None:
    results = client.map("fail", [b"1", b"2"])
    with pytest.raises(JobExceptionError, match="1"):
        next(results)
    both = list(client.map("fail", [b"1", b"2"], return_exceptions=True))
    assert [str(error)[-1] for error in both] == ["1", "2"]


def test_a_map_raises_what_its_source_raises_after_the_results_before(client: Client) -> None:
    def source() -> Iterator[bytes]:
        yield b"ab"
        raise OSError("the disk is full")

    results = client.map("reverse", source(), return_exceptions=True)
    assert next(results) == b"ba"
    with pytest.raises(OSError, match="the disk is full"):
        next(results)


def test_an_invalid_workload_of_a_map_raises_in_its_turn(client: Client) -> None:
    results = client.map("reverse", [b"ab", 5])  # type: ignore[list-item]
    assert next(results) == b"ba"
    with pytest.raises(TypeError, match="5"):
        next(results)


def test_leaving_a_map_cancels_its_jobs(client: Client) -> None:
    results = client.map("no worker has this", itertools.repeat(b""), limit=10)
    errors: list[BaseException] = []

    def take() -> None:
        try:
            next(results)
        except ClientDisconnectedError as error:
            errors.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    wait_until(lambda: client.statistics().outstanding)
    client.disconnect_all()
    thread.join()
    assert len(errors) == 1
    client.drain(10)


def test_a_map_in_the_background_yields_handles(client: Client) -> None:
    handles = list(client.map("reverse", [b"1", b"2"], background=True))
    assert all(isinstance(handle, JobHandle) for handle in handles)
    client.drain(10)


def test_a_map_refuses_an_asynchronous_source(client: Client) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(TypeError, match="ordinary iterable"):
        client.map("reverse", source())  # type: ignore[call-overload]


# By name.


def test_a_client_is_found_by_its_alias_until_it_is_closed(job_server: AnyJobServer) -> None:
    with spawn(alias="mine", job_servers=job_server.address) as client:
        assert get_client("mine") is client
        with pytest.raises(AliasInUseError):
            spawn(alias="mine")
        results: list[bytes] = []
        post("mine", "add_task", Task("reverse", b"abc", on_complete=results.append))
        wait_until(lambda: results)
        assert results == [b"cba"]
        post("mine", "set_job_servers", ["127.0.0.1:1"])
        wait_until(lambda: client.job_servers == ("127.0.0.1:1",))
        post("mine", "disconnect_all")
        with pytest.raises(ValueError, match="an event is one of"):
            post("mine", "dance")
        with pytest.raises(TypeError, match="add_task takes 1 arguments"):
            post("mine", "add_task")
    with pytest.raises(UnknownAliasError):
        get_client("mine")


# The job server.


def test_a_job_server_runs_for_a_block() -> None:
    with JobServer(port=0) as server:
        worker = Worker(server.address)
        worker.function("reverse")(lambda job: job.workload[::-1])
        with worker, Client(server.address) as client:
            assert client.do("reverse", b"abc") == b"cba"
        with pytest.raises(RuntimeError, match="already running"):
            server.start()
        port = int(server.address.rpartition(":")[2])
        assert listens(os.getpid(), port)
    assert not listens(os.getpid(), port)


@pytest.mark.parametrize(
    "run",
    [
        lambda client: client.do("fail", b"no"),
        lambda client: client.submit("fail", b"no").result(),
        lambda client: client.get_status("no handle"),
        lambda client: next(client.map("fail", [b"no"])),
    ],
    ids=["do", "submit", "get_status", "map"],
)
def test_an_error_keeps_nothing_of_the_caller_alive(client: Client, run: Callable[[Client], object]) -> None:
    class Local:
        pass

    references: list[weakref.ref[Local]] = []

    def call() -> None:
        local = Local()
        references.append(weakref.ref(local))
        run(client)

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(JobExceptionError, ValueError):
            call()
        wait_until(lambda: references[0]() is None)
    finally:
        gc.enable()
