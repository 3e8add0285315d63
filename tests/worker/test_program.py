"""A worker as a program: ``main()``, and the background of an ``async with`` block."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import geartrain
from geartrain import Client, LocalProtocolError, WorkerJob, blocking
from geartrain.program import log_to_stderr
from tests.support.eventually import eventually, wait_until
from tests.support.job_server import AnyJobServer
from tests.support.working import beside

PACKAGES: dict[str, Any] = {"asyncio": geartrain, "blocking": blocking}


@pytest.fixture(params=list(PACKAGES))
def package(request: pytest.FixtureRequest) -> Any:
    return PACKAGES[request.param]


def send_signal(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_lets_the_running_jobs_end(package: Any, job_server: AnyJobServer) -> None:
    worker, may_end = package.Worker(job_server.address, concurrency=2), threading.Event()
    results: list[bytes] = []

    def wait(job: WorkerJob) -> bytes:
        may_end.wait(10)
        return b"done"

    worker.function(wait)

    def drive() -> None:
        with blocking.Client(job_server.address) as client:
            job = client.submit("wait")
            wait_until(lambda: worker.statistics().running == 1)
            send_signal()
            wait_until(lambda: worker.state == "stopping")
            may_end.set()
            results.append(job.result(10))

    before = signal.getsignal(signal.SIGTERM)
    with beside(drive):
        worker.main()
    assert results == [b"done"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert worker.state == "idle"


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_second_signal_gives_the_running_jobs_back(package: Any, job_server: AnyJobServer, concurrency: int) -> None:
    first, may_end = package.Worker(job_server.address, concurrency=concurrency), threading.Event()

    def wait(job: WorkerJob) -> None:
        may_end.wait(10)

    first.function("wait")(wait)

    def drive() -> None:
        wait_until(lambda: first.statistics().running == 1)
        send_signal()
        wait_until(lambda: first.state == "stopping")
        send_signal(signal.SIGINT)

    second = blocking.Worker(job_server.address)
    second.function("wait")(lambda job: b"by another worker")
    with blocking.Client(job_server.address) as client:
        job = client.submit("wait")
        with beside(drive), pytest.raises(SystemExit) as caught:
            first.main()
        assert caught.value.code == 128 + signal.SIGINT
        assert first.statistics().lost == 1
        with second:
            assert job.result(10) == b"by another worker"
    may_end.set()


def test_a_signal_that_was_ignored_stays_ignored(package: Any, job_server: AnyJobServer) -> None:
    worker = package.Worker(job_server.address)
    worker.function("f")(lambda job: b"")
    handlers: list[Any] = []

    def drive() -> None:
        wait_until(worker.ready)
        handlers.extend(map(signal.getsignal, (signal.SIGHUP, signal.SIGTERM)))
        send_signal()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with beside(drive):
            worker.main()
        assert handlers[0] == signal.SIG_IGN != handlers[1]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_main_needs_the_main_thread_and_a_function(package: Any) -> None:
    with pytest.raises(LocalProtocolError, match="the worker has no functions"):
        package.Worker().main()
    with ThreadPoolExecutor(1) as pool, pytest.raises(LocalProtocolError, match="only the main thread can call it"):
        pool.submit(package.Worker().main).result()


def test_a_program_logs_to_standard_error_unless_it_has_configured_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    root, own = logging.getLogger(), logging.getLogger("geartrain")
    log_to_stderr()
    assert own.level == logging.NOTSET, "pytest has configured logging"
    monkeypatch.setattr(root, "handlers", [])
    try:
        log_to_stderr()
        (handler,) = root.handlers
        record = logging.makeLogRecord(
            {"name": "app", "levelname": "INFO", "process": 7, "msg": "a\nb", "created": 0.0}
        )
        assert handler.format(record).endswith(r" INFO app[7]: a\nb")
        assert own.level == logging.INFO
    finally:
        own.setLevel(logging.NOTSET)


# async with


async def test_a_worker_runs_in_the_background_of_a_block_until_its_jobs_have_ended(job_server: AnyJobServer) -> None:
    worker, may_end = geartrain.Worker(job_server.address), asyncio.Event()

    @worker.function
    async def wait(job: WorkerJob) -> bytes:
        await may_end.wait()
        return b"done"

    async with Client(job_server.address) as client:
        async with worker as entered:
            assert entered is worker
            job = client.submit("wait")
            await eventually(lambda: worker.statistics().running)
            asyncio.get_running_loop().call_soon(may_end.set)
        assert worker.state == "idle"
        assert await job == b"done"


async def test_a_block_that_raises_gives_the_running_jobs_back(job_server: AnyJobServer) -> None:
    worker = geartrain.Worker(job_server.address)

    @worker.function("wait")
    async def wait(job: WorkerJob) -> None:
        await asyncio.Event().wait()

    async with Client(job_server.address) as client:
        job = client.submit("wait")
        with pytest.raises(KeyError, match="own"):
            async with worker:
                await eventually(lambda: worker.statistics().running)
                raise KeyError("own")
        assert worker.statistics().lost == 1
        job.cancel()


async def test_a_run_that_fails_ends_its_block_with_the_error(job_server: AnyJobServer) -> None:
    def fail() -> None:
        raise KeyError("at the start")

    worker = geartrain.Worker(job_server.address, on_start=fail)
    worker.function("f")(lambda job: b"")
    before = threading.active_count()
    with pytest.raises(KeyError, match="at the start"):
        async with worker:
            await asyncio.Event().wait()
    await eventually(lambda: threading.active_count() <= before)
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_a_block_can_end_at_once_and_its_worker_be_used_again(job_server: AnyJobServer) -> None:
    worker = geartrain.Worker(job_server.address)
    worker.function("f")(lambda job: b"result")
    async with worker:
        with pytest.raises(LocalProtocolError, match="already running"):
            async with worker:
                pass
    async with worker, Client(job_server.address) as client:
        assert await client.do("f", timeout=10) == b"result"
        worker.stop()
        await eventually(lambda: worker.state == "idle")
