"""The worker."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from geartrain import JobExceptionError, JobFailedError
from geartrain.blocking import Admin, Client
from tests.compat.conftest import JSONEncoder, Text
from tests.support.eventually import wait_until
from tests.support.gearmand import free_port
from tests.support.job_server import AnyJobServer


@pytest.fixture
def jobs(job_server: AnyJobServer) -> Iterator[Client]:
    """A client of geartrain."""
    with Client(job_server.address) as jobs:
        yield jobs


@pytest.fixture
def worker_class(flavour: Any) -> Any:
    """A worker that leaves after as many jobs as ``jobs_left`` says."""

    class Worker(flavour.GearmanWorker):  # type: ignore[misc]
        jobs_left = 1

        def after_job(self) -> bool:
            self.jobs_left -= 1
            return self.jobs_left > 0

    return Worker


@pytest.fixture
def worker(worker_class: Any, job_server: AnyJobServer, native: Text) -> Any:
    worker = worker_class([job_server.address])
    worker.register_task(native("upper"), lambda worker, job: job.data.upper())
    return worker


@contextmanager
def working(worker: Any, **options: Any) -> Iterator[list[BaseException]]:
    """Have a worker work in another thread, and shut it down; yields what work() has raised."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            worker.work(**options)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield errors
    finally:
        worker.shutdown()
        thread.join(10)
    assert not thread.is_alive()


def test_a_task_gets_the_worker_and_the_job_in_the_thread_that_works(
    worker: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    seen: list[Any] = []

    def task(*arguments: Any) -> Any:
        seen.extend((*arguments, threading.get_native_id()))
        return native("done")

    assert worker.register_task(native("task"), task) == native("task")
    pending = jobs.submit("task", b"abc", unique="key")
    assert worker.work() is None
    assert pending.result(10) == b"done"
    found, job, thread = seen
    assert found is worker
    assert thread == threading.get_native_id()
    assert (job.task, job.unique, job.data) == (native("task"), native("key"), native("abc"))
    assert pending.handle is not None
    assert job.handle == native(pending.handle.handle)
    assert job.connection is worker.connection_list[0]
    assert job.connection.gearman_port == job_server.port


def test_a_worker_can_work_again(worker: Any, jobs: Client) -> None:
    for _ in range(2):
        worker.jobs_left = 1
        pending = jobs.submit("upper", b"abc")
        worker.work()
        assert pending.result(10) == b"ABC"
    assert not worker.connection_list[0].connected


def test_a_task_may_be_registered_as_text(worker: Any, jobs: Client) -> None:
    worker.register_task("text", lambda worker, job: "\N{EURO SIGN}")
    pending = jobs.submit("text")
    worker.work()
    assert pending.result(10).decode() == "\N{EURO SIGN}"


def test_a_task_that_raises_fails_its_job_after_the_hook_has_seen_why(
    worker_class: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    class Worker(worker_class):  # type: ignore[misc]
        def on_job_exception(self, current_job: Any, exc_info: Any) -> bool:
            assert exc_info == sys.exc_info(), "it runs in the except block"
            seen.append(exc_info[1])
            return bool(super().on_job_exception(current_job, exc_info))

    def task(worker: Any, job: Any) -> None:
        raise error

    error = KeyError("no such image")
    seen: list[BaseException] = []
    worker = Worker([job_server.address])
    worker.register_task(native("task"), task)
    pending = jobs.submit("task")
    worker.work()
    with pytest.raises(JobFailedError):
        pending.result(10)
    assert seen == [error]


def test_hooks_may_answer_and_call_the_originals(
    worker_class: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    """OpenVDM's workers do."""

    class Worker(worker_class):  # type: ignore[misc]
        jobs_left = 2

        def on_job_execute(self, current_job: Any) -> Any:
            if not current_job.data:
                return self.on_job_complete(current_job, native("nothing to do"))
            return super().on_job_execute(current_job)

        def on_job_complete(self, current_job: Any, job_result: Any) -> Any:
            return super().send_job_complete(current_job, job_result + native("!"))

    worker = Worker([job_server.address])
    worker.register_task(native("task"), lambda worker, job: job.data)
    pending = [jobs.submit("task", data) for data in (b"", b"abc")]
    worker.work()
    assert [job.result(10) for job in pending] == [b"nothing to do!", b"abc!"]


def test_updates_are_sent_while_the_task_runs(worker: Any, jobs: Client, native: Text) -> None:
    def task(worker: Any, job: Any) -> Any:
        worker.send_job_data(job, native("part"))
        worker.send_job_warning(job, native("soon"))
        worker.send_job_status(job, 1, 2)
        worker.wait_until_updates_sent([job])
        assert arrived.wait(10)
        return native("end")

    arrived = threading.Event()
    worker.register_task(native("task"), task)
    data: list[bytes] = []
    warnings: list[bytes] = []
    pending = jobs.submit(
        "task", on_data=data.append, on_warning=warnings.append, on_status=lambda *status: arrived.set()
    )
    worker.work()
    assert pending.result(10) == b"end"
    assert data == [b"part"]
    assert warnings == [b"soon"]


def test_a_task_may_send_an_exception(
    worker: Any, jobs: Client, native: Text, caplog: pytest.LogCaptureFixture
) -> None:
    def task(worker: Any, job: Any) -> None:
        worker.send_job_exception(job, native("no such image"))

    worker.register_task(native("task"), task)
    pending = jobs.submit("task")
    worker.work()
    with pytest.raises(JobExceptionError) as caught:
        pending.result(10)
    assert caught.value.data == b"no such image"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_is_sent_after_the_end_of_a_job_is_dropped(worker: Any, jobs: Client, native: Text) -> None:
    def task(worker: Any, job: Any) -> Any:
        worker.send_job_complete(job, native("first"))
        worker.send_job_data(job, native("late"))
        worker.send_job_warning(job, native("late"))
        worker.send_job_status(job, 1, 2)
        worker.send_job_failure(job)
        return native("second")

    worker.register_task(native("task"), task)
    updates: list[Any] = []
    pending = jobs.submit("task", on_data=updates.append, on_warning=updates.append)
    worker.work()
    assert pending.result(10) == b"first"
    assert updates == []


def test_nothing_can_be_sent_for_a_job_that_is_not_running(
    worker: Any, flavour: Any, jobs: Client, native: Text
) -> None:
    kept: list[Any] = []
    worker.register_task(native("task"), lambda worker, job: kept.append(job))
    pending = jobs.submit("task")
    worker.work()
    assert pending.result(10) == b"", "None is an empty result"
    with pytest.raises(flavour.errors.InvalidWorkerState, match="is not running"):
        worker.send_job_data(kept[0], native("late"))


def test_an_encoder_gets_and_returns_objects(worker: Any, jobs: Client, native: Text) -> None:
    worker.data_encoder = JSONEncoder
    worker.jobs_left = 2
    worker.register_task(native("double"), lambda worker, job: job.data and job.data * 2)
    pending = [jobs.submit("double", data) for data in (b"[1]", b"null")]
    worker.work()
    assert [job.result(10) for job in pending] == [b"[1, 1]", b"null"]


def test_an_encoder_may_return_a_bytearray(worker: Any, jobs: Client, native: Text) -> None:
    class Encoder:
        encode = staticmethod(bytearray)
        decode = staticmethod(str)

    worker.data_encoder = Encoder
    worker.register_task(native("task"), lambda worker, job: b"abc")
    pending = jobs.submit("task")
    worker.work()
    assert pending.result(10) == b"abc"


def test_data_that_cannot_be_decoded_fails_its_job_and_not_the_worker(worker: Any, jobs: Client, native: Text) -> None:
    worker.data_encoder = JSONEncoder
    worker.jobs_left = 2
    worker.register_task(native("double"), lambda worker, job: job.data * 2)
    broken, good = jobs.submit("double", b"]"), jobs.submit("double", b"2")
    worker.work()
    assert good.result(10) == b"4"
    with pytest.raises(JobFailedError):
        broken.result(10)


@pytest.mark.parametrize("result", [5, object()])
def test_a_result_that_cannot_be_encoded_fails_its_job_and_not_the_worker(
    worker: Any, jobs: Client, native: Text, result: object, caplog: pytest.LogCaptureFixture
) -> None:
    worker.register_task(native("task"), lambda worker, job: result)
    pending = jobs.submit("task")
    worker.work()
    with pytest.raises(JobFailedError):
        pending.result(10)
    assert "cannot be encoded" in caplog.text


def test_bytes_that_are_not_utf_8_reach_the_task_and_come_back(worker: Any, jobs: Client, native: Text) -> None:
    worker.register_task(native("echo"), lambda worker, job: job.data)
    pending = jobs.submit("echo", b"\xff\xfe")
    worker.work()
    assert pending.result(10) == b"\xff\xfe"


def test_names_of_a_program_do_not_clash_with_those_of_the_class(
    flavour: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    names = ("run", "running", "stop", "execute", "client", "admin", "job", "jobs", "restart", "is_ending", "encode",
             "decode", "submissions", "current", "events", "add", "ask", "on_end", "on_done", "put_event")  # fmt: skip
    own = {prefix + name: None for name in names for prefix in ("", "_")}
    worker_class = type("Worker", (flavour.GearmanWorker,), {**own, "after_job": lambda self: False})
    worker = worker_class([job_server.address])
    worker.register_task(native("upper"), lambda worker, job: job.data.upper())
    pending = jobs.submit("upper", b"abc")
    worker.work()
    assert pending.result(10) == b"ABC"
    client = type("Client", (flavour.GearmanClient,), own)([job_server.address])
    assert client.get_job_status(client.submit_job(native("f"), native(""), background=True)).status["known"]
    client.shutdown()


def test_a_job_that_no_hook_ends_has_failed(worker: Any, jobs: Client, native: Text) -> None:
    worker.on_job_execute = lambda job: None
    pending = jobs.submit("upper", b"abc")
    worker.work()
    with pytest.raises(JobFailedError):
        pending.result(10)


def test_an_invalid_status_is_an_error_of_the_task(worker: Any, jobs: Client, native: Text) -> None:
    worker.register_task(native("task"), lambda worker, job: worker.send_job_status(job, "1", "2"))
    pending = jobs.submit("task")
    worker.work()
    with pytest.raises(JobFailedError):
        pending.result(10)


# Between jobs.


def test_after_poll_is_called_at_the_start_between_polls_and_after_each_job(
    worker: Any, jobs: Client, job_server: AnyJobServer
) -> None:
    calls: list[bool] = []
    worker.jobs_left = 10

    def after_poll(any_activity: bool) -> bool:
        calls.append(any_activity)
        if len(calls) == 3:
            jobs.submit("upper", b"abc")
        return any_activity is False or len(calls) < 3

    worker.after_poll = after_poll
    worker.work(poll_timeout=0.01)
    assert calls[:3] == [False, False, False]
    assert calls[-1] is True


def test_no_job_is_taken_once_after_poll_has_returned_false(
    worker: Any, jobs: Client, job_server: AnyJobServer
) -> None:
    for _ in range(3):
        jobs.submit("upper", b"abc", background=True).result(10)
    worker.jobs_left = 10
    worker.after_poll = lambda any_activity: not any_activity
    worker.work()
    with Admin(job_server.address) as admin:
        (status,) = admin.status()
    assert (status.total, status.running) == (2, 0)


def test_work_ends_before_it_connects_if_after_poll_says_so(worker: Any) -> None:
    worker.after_poll = lambda any_activity: False
    assert worker.work() is None


@pytest.mark.parametrize("error", [RuntimeError("hook"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_hook_raises_ends_the_work_and_another_worker_gets_the_job(
    worker: Any, worker_class: Any, jobs: Client, native: Text, job_server: AnyJobServer, error: BaseException
) -> None:
    def execute(job: Any) -> None:
        raise error

    original = worker.on_job_execute
    worker.on_job_execute = execute
    pending = jobs.submit("upper", b"abc")
    with pytest.raises(type(error)) as caught:
        worker.work()
    assert caught.value is error
    worker.on_job_execute = original
    worker.work()
    assert pending.result(10) == b"ABC"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_of_a_task_ends_the_work_and_another_worker_gets_the_job(
    worker: Any, jobs: Client, native: Text, error: BaseException
) -> None:
    errors = [error]

    def task(worker: Any, job: Any) -> Any:
        if errors:
            raise errors.pop()
        return job.data

    worker.register_task(native("task"), task)
    pending = jobs.submit("task", b"abc")
    with pytest.raises(type(error)) as caught:
        worker.work()
    assert caught.value is error
    worker.work()
    assert pending.result(10) == b"abc"


def test_what_after_poll_raises_after_a_job_is_raised_once_its_result_is_sent(worker: Any, jobs: Client) -> None:
    def after_poll(any_activity: bool) -> bool:
        if any_activity:
            raise RuntimeError("hook")
        return True

    worker.after_poll = after_poll
    pending = jobs.submit("upper", b"abc")
    with pytest.raises(RuntimeError, match="hook"):
        worker.work()
    assert pending.result(10) == b"ABC"


def test_what_after_poll_raises_while_there_is_no_job_ends_the_work(worker: Any) -> None:
    calls: list[bool] = []

    def after_poll(any_activity: bool) -> bool:
        calls.append(any_activity)
        if len(calls) == 2:
            raise RuntimeError("hook")
        return True

    worker.after_poll = after_poll
    with pytest.raises(RuntimeError, match="hook"):
        worker.work(poll_timeout=0.01)


def test_what_create_job_raises_ends_the_work(worker: Any, jobs: Client) -> None:
    def create_job(*arguments: Any) -> Any:
        raise JobFailedError("not a failure of the job")

    worker.create_job = create_job
    jobs.submit("upper", b"abc")
    with pytest.raises(JobFailedError, match="not a failure of the job"):
        worker.work()


# Changes while it works.


def functions_of(job_server: AnyJobServer) -> set[str]:
    with Admin(job_server.address) as admin:
        return {function.function for function in admin.status() if function.workers}


def test_tasks_and_the_client_id_may_change_at_any_time(
    worker: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    worker.jobs_left = 10
    with working(worker) as errors:
        wait_until(lambda: functions_of(job_server) == {"upper"})
        worker.register_task(native("lower"), lambda worker, job: job.data.lower())
        wait_until(lambda: functions_of(job_server) == {"upper", "lower"})
        assert jobs.do("lower", b"ABC", timeout=10) == b"abc"
        assert worker.unregister_task(native("upper")) == native("upper")
        wait_until(lambda: functions_of(job_server) == {"lower"})
        assert worker.set_client_id(native("name")) == native("name")
        with Admin(job_server.address) as admin:
            wait_until(lambda: "name" in {each.client_id for each in admin.workers()})
        worker.unregister_task(native("lower"))
        wait_until(lambda: functions_of(job_server) == set())
        worker.register_task(native("new"), lambda worker, job: job.data)
        assert jobs.do("new", b"abc", timeout=10) == b"abc"
    assert errors == []


def test_a_worker_without_tasks_waits_for_one(
    flavour: Any, jobs: Client, native: Text, job_server: AnyJobServer
) -> None:
    class Worker(flavour.GearmanWorker):  # type: ignore[misc]
        polls = 0

        def after_poll(self, any_activity: bool) -> bool:
            self.polls += 1
            if self.polls == 3:
                self.register_task(native("late"), lambda worker, job: job.data)
            return not any_activity

    worker = Worker([job_server.address])
    pending = jobs.submit("late", b"abc")
    worker.work(poll_timeout=0.01)
    assert pending.result(10) == b"abc"


def test_without_a_poll_timeout_after_poll_is_called_only_at_the_start_and_after_each_job(
    worker: Any, jobs: Client
) -> None:
    calls: list[bool] = []

    def after_poll(any_activity: bool) -> bool:
        calls.append(any_activity)
        return True

    worker.after_poll = after_poll
    pending = jobs.submit("upper", b"abc")
    worker.work(poll_timeout=None)
    assert pending.result(10) == b"ABC"
    assert calls == [False, True]


def test_a_job_whose_task_was_removed_fails(worker: Any, jobs: Client, native: Text) -> None:
    def remove(worker: Any, job: Any) -> None:
        del worker.worker_abilities[native("other")]
        pending.append(jobs.submit("other"))

    worker.register_task(native("task"), remove)
    worker.register_task(native("other"), lambda worker, job: job.data)
    worker.jobs_left = 2
    pending = [jobs.submit("task")]
    worker.work()
    assert pending[0].result(10) == b""
    with pytest.raises(JobFailedError):
        pending[1].result(10)


def test_a_task_may_register_another_one(worker: Any, jobs: Client, native: Text) -> None:
    worker.jobs_left = 2
    worker.register_task(
        native("first"),
        lambda worker, job: worker.register_task(native("second"), lambda worker, job: native("second")),
    )
    pending = [jobs.submit("first"), jobs.submit("second")]
    worker.work()
    assert [job.result(10) for job in pending] == [b"second", b"second"]


def test_shutdown_in_another_thread_ends_the_work_immediately(worker: Any, job_server: AnyJobServer) -> None:
    with working(worker) as errors:
        wait_until(lambda: functions_of(job_server) == {"upper"})
    assert errors == []


def test_a_signal_handler_may_shut_the_worker_down(worker: Any, job_server: AnyJobServer) -> None:
    """OpenVDM's workers do, at SIGINT."""
    original = signal.signal(signal.SIGUSR1, lambda *_: worker.shutdown())
    try:
        with signal_when_registered(job_server, signal.SIGUSR1):
            worker.work()
    finally:
        signal.signal(signal.SIGUSR1, original)


def test_ctrl_c_ends_the_work_of_an_idle_worker(worker: Any, job_server: AnyJobServer) -> None:
    with signal_when_registered(job_server, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        worker.work()


@contextmanager
def signal_when_registered(job_server: AnyJobServer, number: signal.Signals) -> Iterator[None]:
    """Send this process a signal as soon as a worker is there."""

    def send() -> None:
        wait_until(lambda: functions_of(job_server) == {"upper"})
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_shutdown_in_a_task_ends_the_work_after_its_job(worker: Any, jobs: Client, native: Text) -> None:
    def task(worker: Any, job: Any) -> Any:
        worker.shutdown()
        return job.data

    worker.jobs_left = 10
    worker.register_task(native("task"), task)
    pending = jobs.submit("task", b"abc")
    worker.work()
    assert pending.result(10) == b"abc"


# Unreachable job servers.


def test_work_without_a_job_server_is_an_error_and_can_be_repeated(
    flavour: Any, worker: Any, jobs: Client, job_server: AnyJobServer
) -> None:
    job_server.kill()
    for _ in range(2):
        with pytest.raises(flavour.errors.ServerUnavailable, match=r"Found no valid connections.*connected=False"):
            worker.work()
    job_server.restart()
    pending = jobs.submit("upper", b"abc")
    worker.work()
    assert pending.result(10) == b"ABC"
    with pytest.raises(flavour.errors.ServerUnavailable):
        flavour.GearmanWorker().work()


def test_work_ends_with_an_error_when_the_last_job_server_is_lost(
    flavour: Any, worker: Any, job_server: AnyJobServer
) -> None:
    with working(worker) as errors:
        wait_until(lambda: functions_of(job_server) == {"upper"})
        job_server.kill()
        wait_until(lambda: errors)
    assert isinstance(errors[0], flavour.errors.ServerUnavailable)


def test_a_worker_takes_jobs_from_the_job_servers_that_it_can_reach(
    flavour: Any, worker_class: Any, native: Text, job_server: AnyJobServer, jobs: Client
) -> None:
    worker = worker_class([f"127.0.0.1:{free_port()}", job_server.address])
    worker.register_task(native("upper"), lambda worker, job: job.data.upper())
    pending = jobs.submit("upper", b"abc")
    worker.work()
    assert pending.result(10) == b"ABC"


def test_connections_may_be_established_in_advance(worker: Any, job_server: AnyJobServer) -> None:
    away = worker.add_connection(("127.0.0.1", free_port()))
    (connection,) = worker.establish_worker_connections()
    assert connection is worker.connection_list[0]
    assert connection.connected
    assert not away.connected
    worker.shutdown()
    assert not connection.connected


def test_a_task_may_use_a_client(
    worker: Any, flavour: Any, native: Text, jobs: Client, job_server: AnyJobServer
) -> None:
    def task(worker: Any, job: Any) -> Any:
        client = flavour.GearmanClient([job_server.address])
        request = client.submit_job(native("nobody"), job.data, background=True)
        client.shutdown()
        return request.job.handle

    worker.register_task(native("task"), task)
    pending = jobs.submit("task", b"abc")
    worker.work()
    assert pending.result(10).startswith(b"H:")
