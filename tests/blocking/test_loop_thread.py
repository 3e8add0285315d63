"""The thread that runs the event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import types
from collections.abc import Callable

import pytest

from geartrain import JobTimeoutError, LocalProtocolError, Task
from geartrain.blocking import Client, Job, JobServer, Worker, loop_thread, shared_thread
from tests.support.eventually import wait_until


def test_a_thread_that_cannot_be_started_is_an_error_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("127.0.0.1:1")

    def refuse(run: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "start_native_thread", refuse)
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="cannot start its thread: can't start new thread"):
                client.do("reverse")
    with JobServer(port=0) as server:  # later there are threads again
        worker = Worker(server.address)
        worker.function("reverse")(lambda job: job.workload[::-1])
        with worker, Client(server.address) as other:
            assert other.do("reverse", b"abc", timeout=10) == b"cba"
    client.close()


@pytest.mark.parametrize("options", [{"enable-threads": True}, {"threads": b"4"}, {}])
def test_uwsgi_without_threads_is_an_error_instead_of_a_hang(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(opt=options))
    server = JobServer(port=0)
    if options:
        with server:
            return
    with pytest.raises(LocalProtocolError, match="--enable-threads"):
        server.start()


def test_the_end_of_the_thread_ends_what_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"127.0.0.1:{silent.getsockname()[1]}")
        job = client.submit("reverse")
        results = client.map("reverse", [b"abc"])
        errors: list[BaseException] = []

        def wait(call: Callable[[], object]) -> None:
            try:
                call()
            except LocalProtocolError as error:
                errors.append(error)

        waits: list[Callable[[], object]] = [job.result, lambda: client.do("reverse"), lambda: next(results)]
        threads = [threading.Thread(target=wait, args=(call,)) for call in waits]
        for thread in threads:
            thread.start()
        wait_until(lambda: client.statistics().outstanding == 3)

        def fail() -> None:
            raise OSError("the selector is broken")

        loop = fail_next_turn(fail)
        for thread in threads:
            thread.join()
        wait_until(loop.is_closed)
        assert len(errors) == 3
        assert "the selector is broken" in caplog.text
        with pytest.raises(JobTimeoutError):
            client.do("reverse", timeout=0.05)  # in another thread
        client.close()


def test_what_is_begun_when_the_thread_has_ended_is_an_error() -> None:
    client = Client("127.0.0.1:1")
    job = Job(Task("reverse"), client._resident)
    thread = client._resident.get_thread()
    thread.stop()
    job.start()
    with pytest.raises(LocalProtocolError, match="has ended"):
        job.result(0)
    with pytest.raises(LocalProtocolError, match="has ended"):
        thread.wait_for(asyncio.Future)
    client.close()


def test_what_was_posted_before_the_thread_has_ended_is_an_error() -> None:
    client = Client("127.0.0.1:1")
    job = Job(Task("reverse"), client._resident)
    thread = client._resident.get_thread()

    def end_and_submit() -> None:
        thread.stop()
        job.start()

    thread.post(end_and_submit)
    with pytest.raises(LocalProtocolError, match="has ended"):
        job.result(10)
    wait_until(thread.loop.is_closed)
    client.close()


def fail_next_turn(fail: Callable[[], None]) -> asyncio.AbstractEventLoop:
    """Have the event loop fail as if its selector were broken."""
    assert shared_thread._current is not None
    loop = shared_thread._current.loop
    loop.call_soon_threadsafe(lambda: setattr(loop, "_run_once", fail))
    return loop
