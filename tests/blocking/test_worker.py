"""The worker for programs without asyncio."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from geartrain import FunctionThread, LocalProtocolError, NoServersError, WorkerJob
from geartrain.blocking import Admin, Client, Worker
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, free_port
from tests.support.job_server import AnyJobServer
from tests.worker.prefork.functions import count_connections


def in_background(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def thread_of_job(job: WorkerJob) -> bytes:
    job.send_data(b"update")
    return b"%d" % threading.get_native_id()


def test_functions_run_in_the_thread_that_runs_the_worker(job_server: AnyJobServer, client: Client) -> None:
    worker = Worker(job_server.address)
    worker.function("thread")(thread_of_job)
    results: list[bytes] = []

    def drive() -> None:
        results.extend(client.do("thread", timeout=10) for _ in range(3))
        worker.stop()

    driver = in_background(drive)
    worker.run()
    driver.join()
    assert results == [b"%d" % threading.get_native_id()] * 3
    assert worker.state == "idle"
    assert worker.statistics().servers[job_server.address].completed == 3


def test_processes_have_connections_of_their_own(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    worker.function("count", processes=1)(count_connections)
    results: list[bytes] = []

    def drive() -> None:
        with Client(gearmand.address) as client:
            results.append(client.do("count", timeout=20))
        worker.stop()

    driver = in_background(drive)
    worker.run()
    driver.join()
    assert results == [b"1"]


def test_processes_are_an_error_under_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("127.0.0.1:1")
    worker.function("count", processes=1)(count_connections)
    monkeypatch.setattr("geartrain.blocking.worker.is_patched", lambda: True)
    with pytest.raises(LocalProtocolError, match="cannot run in processes under gevent"):
        worker.run()
    with pytest.raises(LocalProtocolError, match="cannot run in processes under gevent"), worker:
        raise AssertionError("the block must not begin")


def test_several_jobs_at_a_time_run_in_threads(job_server: AnyJobServer, client: Client) -> None:
    worker = Worker(job_server.address, concurrency=3)
    together = threading.Barrier(3)

    @worker.function("meet")
    def meet(job: WorkerJob) -> bytes:
        together.wait(10)
        return b"%d" % threading.get_native_id()

    results: set[bytes] = set()

    def drive() -> None:
        results.update(client.map("meet", [b""] * 3))
        worker.stop()

    driver = in_background(drive)
    worker.run()
    driver.join()
    assert len(results) == 3
    assert b"%d" % threading.get_native_id() not in results


def test_a_block_runs_the_worker_and_ends_when_its_jobs_have_ended(job_server: AnyJobServer, client: Client) -> None:
    worker = Worker(job_server.address)
    may_end = threading.Event()

    @worker.function("wait")
    def wait(job: WorkerJob) -> bytes:
        may_end.wait(10)
        return b"done"

    with worker:
        wait_until(worker.ready)
        job = client.submit("wait")
        wait_until(lambda: worker.statistics().servers[job_server.address].taken)
        assert not job.done()
        may_end.set()
    assert job.result(10) == b"done"
    assert worker.state == "idle"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_function_ends_the_run_and_gives_its_job_back(
    job_server: AnyJobServer, client: Client, interruption: type[BaseException]
) -> None:
    worker = Worker(job_server.address)

    @worker.function("interrupt")
    def interrupt(job: WorkerJob) -> bytes:
        raise interruption

    job = client.submit("interrupt")
    with pytest.raises(interruption):
        worker.run()
    again = Worker(job_server.address)
    again.function("interrupt")(lambda job: b"done")
    with again:
        assert job.result(10) == b"done"


@pytest.mark.parametrize("concurrency", [1, 2])
def test_ctrl_c_ends_an_idle_worker(job_server: AnyJobServer, concurrency: int) -> None:
    worker = Worker(job_server.address, concurrency=concurrency)
    worker.function("reverse")(lambda job: job.workload[::-1])

    def interrupt() -> None:
        wait_until(worker.ready)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = in_background(interrupt)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    interrupting.join()
    assert worker.state == "idle"
    with Admin(job_server.address) as admin:
        wait_until(lambda: not any(function.workers for function in admin.status()))


def test_a_signal_handler_runs_at_once_and_may_stop_the_worker(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    worker.function("reverse")(lambda job: job.workload[::-1])
    before = signal.signal(signal.SIGUSR1, lambda number, frame: worker.stop())
    try:

        def interrupt() -> None:
            wait_until(worker.ready)
            os.kill(os.getpid(), signal.SIGUSR1)

        interrupting = in_background(interrupt)
        worker.run()
        interrupting.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_idle_worker_calls_back_in_its_thread(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    worker.function("reverse")(lambda job: job.workload[::-1])
    threads: list[int] = []

    def on_idle() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            worker.stop()

    worker.run(on_idle=on_idle, interval=0.01)
    assert set(threads) == {threading.get_ident()}


def test_calls_do_not_accumulate_while_a_function_runs(
    job_server: AnyJobServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(job_server.address)
    queued: list[object] = []
    execute = FunctionThread.execute

    def count(thread: FunctionThread, call: Callable[[], object]) -> None:
        queued.append(call)
        execute(thread, call)

    monkeypatch.setattr(FunctionThread, "execute", count)

    @worker.function("wait")
    def wait(job: WorkerJob) -> bytes:
        before = len(queued)
        for _ in range(100):
            client.statistics()  # at least one turn of the event loop
        worker.stop()
        return b"%d" % (len(queued) - before)

    job = client.submit("wait")
    worker.run(on_idle=lambda: None, interval=0)
    assert int(job.result(10)) <= 1


def test_a_worker_that_does_not_wait_ends_when_no_job_server_can_be_reached() -> None:
    worker = Worker(f"127.0.0.1:{free_port()}")
    worker.function("reverse")(lambda job: job.workload[::-1])
    with pytest.raises(NoServersError):
        worker.run(wait_for_servers=False)


def test_what_the_call_raises_ends_the_run(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    worker.function("reverse")(lambda job: job.workload[::-1])

    def on_idle() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        worker.run(on_idle=on_idle, interval=0.01)
    assert worker.state == "idle"


def test_a_function_may_be_added_while_the_worker_runs(job_server: AnyJobServer, client: Client) -> None:
    worker = Worker(job_server.address)
    worker.function("reverse")(lambda job: job.workload[::-1])
    with worker:
        worker.function("upper")(lambda job: job.workload.upper())
        assert client.do("upper", b"abc", timeout=10) == b"ABC"
        assert worker.functions == ("reverse", "upper")


def test_a_worker_without_functions_is_an_error() -> None:
    worker = Worker("127.0.0.1:1")
    with pytest.raises(LocalProtocolError, match="no functions"):
        worker.run()
    with pytest.raises(LocalProtocolError, match="no functions"), worker:
        raise AssertionError("the block must not begin")
    with pytest.raises(ValueError, match="concurrency must be 1, got 2"):
        Worker(concurrency=2).run(on_idle=print)


def test_a_forked_process_gets_a_worker_with_the_same_functions() -> None:
    worker = Worker("127.0.0.1:1")
    worker.function("thread")(thread_of_job)
    worker.function(thread_of_job)
    assert worker._resident.make().functions == ("thread", "thread_of_job")


def test_leaving_a_block_that_was_not_entered_does_nothing() -> None:
    Worker("127.0.0.1:1").__exit__(None, None, None)
