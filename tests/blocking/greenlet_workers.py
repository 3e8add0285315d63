"""
Workers under gevent's monkey patching.

usage: python -m tests.blocking.greenlet_workers ADDRESS "before the import"|"after the import"
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import monkey

address, patched = sys.argv[1:]
if patched == "before the import":
    monkey.patch_all()

from geartrain import (  # noqa: E402  # patched or not
    FunctionThread,
    JobData,
    JobExceptionError,
    JobFailedError,
    LocalProtocolError,
    WorkerJob,
)
from geartrain.blocking import Client, Worker  # noqa: E402
from geartrain.compat import gearman  # noqa: E402
from tests.support.eventually import wait_until  # noqa: E402

if patched != "before the import":
    monkey.patch_all()


@contextmanager
def raises(error: type[BaseException], text: str = "") -> Iterator[None]:
    raised: BaseException | None = None
    try:
        yield
    except error as caught:
        raised = caught
    assert raised is not None, f"no {error.__name__}"
    assert text in str(raised)


def run(worker: Worker, drive: Callable[[], object]) -> None:
    """Run a worker in this greenlet until another one has called ``drive``."""

    def drive_and_stop() -> None:
        try:
            drive()
        finally:
            worker.stop()

    driving = gevent.spawn(drive_and_stop)
    worker.run()
    driving.get()


def functions_run_in_the_greenlet_that_runs_the_worker_and_others_go_on() -> None:
    worker = Worker(address)
    greenlets: set[object] = set()
    ticks: list[int] = []

    @worker.function("plain")
    def plain(job: WorkerJob) -> bytes:
        greenlets.add(gevent.getcurrent())
        before = len(ticks)
        wait_until(lambda: len(ticks) >= before + 3)  # it calls time.sleep()
        return job.workload[::-1]

    @worker.function("chunks")
    def chunks(job: WorkerJob) -> Iterator[bytes]:
        for _ in range(8):
            gevent.sleep(0)
            yield b"x" * 200_000

    @worker.function("refuse")
    def refuse(job: WorkerJob) -> bytes:
        raise JobFailedError("no")

    @worker.function("raise")
    def raise_(job: WorkerJob) -> bytes:
        with gevent.Timeout(0.001):
            gevent.sleep(10)
        raise AssertionError("it was not interrupted")

    @worker.function("coroutine")
    async def coroutine(job: WorkerJob) -> bytes:
        return b"coroutine"

    def tick() -> None:
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    def drive() -> None:
        assert client.do("plain", b"abc", timeout=10) == b"cba"
        assert list(client.map("plain", [b"ab"] * 3)) == [b"ba"] * 3
        assert client.do("coroutine", timeout=10) == b"coroutine"
        with raises(JobFailedError):
            client.do("refuse", timeout=10)
        with raises(JobExceptionError, "Timeout"):
            client.do("raise", timeout=10)
        received = [update.data for update in client.submit("chunks").updates() if isinstance(update, JobData)]
        assert sum(map(len, received)) == 1_600_000

    ticking = gevent.spawn(tick)
    run(worker, drive)
    ticking.kill()
    assert greenlets == {gevent.getcurrent()}


def several_jobs_at_a_time_run_in_greenlets() -> None:
    worker = Worker(address, concurrency=3)
    together = threading.Barrier(3)
    threads: set[int] = set()

    @worker.function("meet")
    def meet(job: WorkerJob) -> bytes:
        threads.add(threading.get_native_id())
        together.wait(10)
        return b"%d" % id(gevent.getcurrent())

    greenlets: set[bytes] = set()
    run(worker, lambda: greenlets.update(client.map("meet", [b""] * 9)))
    assert len(greenlets) == 3, "they are used again"
    assert threads == {threading.get_native_id()}


def a_block_runs_the_worker_in_the_background() -> None:
    for concurrency in (1, 2):
        worker = Worker(address, concurrency=concurrency)

        @worker.function("wait")
        def wait(job: WorkerJob) -> bytes:
            gevent.sleep(0.01)
            return b"done"

        @worker.function("exit")
        def leave(job: WorkerJob) -> bytes:
            sys.exit(5)

        with worker:
            assert client.do("wait", timeout=10) == b"done"
            worker.function("later")(lambda job: b"later")
            assert client.do("later", timeout=10) == b"later"
            with raises(JobExceptionError, "SystemExit: 5"):
                client.do("exit", timeout=10)
            job = client.submit("wait")
            wait_until(lambda: worker.statistics().servers[address].taken == 4)  # noqa: B023  # it is called at once
        assert job.result(10) == b"done"
        assert worker.state == "idle"


def an_idle_worker_calls_back() -> None:
    worker = Worker(address)
    worker.function("reverse-here")(lambda job: job.workload[::-1])
    greenlets: list[object] = []

    def on_idle() -> None:
        greenlets.append(gevent.getcurrent())
        if len(greenlets) == 3:
            worker.stop()

    worker.run(on_idle=on_idle, interval=0.01)
    assert greenlets == [gevent.getcurrent()] * 3

    def fail() -> None:
        raise OSError("the disk is full")

    with raises(OSError, "the disk is full"):
        worker.run(on_idle=fail, interval=0.01)
    assert worker.state == "idle"


def a_greenlet_that_is_killed_gives_its_job_back() -> None:
    worker = Worker(address)
    began: list[str] = []

    @worker.function("long")
    def long(job: WorkerJob) -> bytes:
        began.append(job.handle)
        if len(began) == 1:
            gevent.sleep(10)
        return b"done"

    for _ in range(2):  # in a function, and between jobs
        running = gevent.spawn(worker.run)
        if not began:
            job = client.submit("long")
            wait_until(lambda: began)
        else:
            wait_until(worker.ready)
        running.kill()
        assert worker.state == "idle"
    run(worker, lambda: job.result(10))
    assert job.result(0) == b"done"


def a_function_that_takes_too_long_ends_only_its_job() -> None:
    worker = Worker(address)
    may_end = gevent.event.Event()

    @worker.function("slow", timeout=0.05)
    def slow(job: WorkerJob) -> bytes:
        may_end.wait(10)
        return b"late"

    def drive() -> None:
        with raises(JobExceptionError, "TimeoutError"):
            client.do("slow", timeout=10)
        may_end.set()
        assert client.do("slow", timeout=10) == b"late"

    run(worker, drive)


def middleware_surrounds_functions() -> None:
    async def add(job: WorkerJob, call: Callable[[WorkerJob], Awaitable[Any]]) -> bytes:
        result: bytes = await call(job)
        return result + b"+"

    worker = Worker(address, middleware=[add])

    @worker.function("plain")
    def plain(job: WorkerJob) -> bytes:
        gevent.sleep(0.001)
        return b"%d" % id(gevent.getcurrent())

    results: list[bytes] = []
    run(worker, lambda: results.append(client.do("plain", timeout=10)))
    assert results == [b"%d+" % id(gevent.getcurrent())]


def ctrl_c_in_a_function_ends_the_run_and_gives_its_job_back() -> None:
    for concurrency in (1, 2):
        worker = Worker(address, concurrency=concurrency)

        @worker.function("interrupt")
        def interrupt(job: WorkerJob) -> bytes:
            signal.raise_signal(signal.SIGINT)
            return b"done"

        job = client.submit("interrupt")
        with raises(KeyboardInterrupt):
            worker.run()
        again = Worker(address)
        again.function("interrupt")(lambda job: b"again")
        with again:
            assert job.result(10) == b"again"


def ctrl_c_ends_an_idle_worker() -> None:
    for concurrency in (1, 2):
        worker = Worker(address, concurrency=concurrency)
        worker.function("plain")(lambda job: b"")

        def interrupt(worker: Worker = worker) -> None:
            wait_until(worker.ready)
            # In another thread, so that it is raised where this one waits.
            gevent.get_hub().threadpool.spawn(os.kill, os.getpid(), signal.SIGINT)

        interrupting = gevent.spawn(interrupt)
        with raises(KeyboardInterrupt):
            worker.run()
        interrupting.join()
        assert worker.state == "idle"


def a_python_gearman_worker_runs_its_tasks_in_its_greenlet() -> None:
    worker = gearman.GearmanWorker([address])
    greenlets: list[object] = []

    def reverse(_: object, job: Any) -> object:
        greenlets.append(gevent.getcurrent())
        gevent.sleep(0.001)
        return job.data[::-1]

    worker.register_task("reverse-there", reverse)
    working = gevent.spawn(worker.work, poll_timeout=0.01)
    assert client.do("reverse-there", b"abc", timeout=10) == b"cba"
    assert greenlets == [working]
    working.kill()


def processes_are_an_error() -> None:
    worker = Worker(address)
    worker.function("max", processes=1)(max)
    with raises(LocalProtocolError, "cannot run in processes under gevent"):
        worker.run()
    with raises(LocalProtocolError, "cannot run in processes under gevent"), worker:
        raise AssertionError("the block must not begin")
    worker = Worker(address)
    worker.function("plain")(lambda job: b"")
    with worker, raises(LocalProtocolError, "cannot run in processes under gevent"):
        worker.function("max", processes=1)(max)
    assert FunctionThread(greenlets=3).concurrency == 3


client = Client(address)
gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)  # gevent would print it
logging.getLogger("geartrain.worker").setLevel(logging.CRITICAL)  # the jobs that fail
for name, check in list(globals().items()):
    if callable(check) and getattr(check, "__module__", "") == __name__ and name not in ("raises", "run"):
        check()
client.close()
