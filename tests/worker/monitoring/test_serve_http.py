"""Probes and metrics of a worker in the process of its caller."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import Any

import pytest

import geartrain
from geartrain import Client, JobFailedError, LocalProtocolError, Worker, WorkerJob, blocking
from geartrain.worker.monitoring import loop_watch
from tests.support.eventually import eventually, wait_until
from tests.support.gearmand import free_port
from tests.support.http import get
from tests.support.job_server import AnyJobServer
from tests.support.worker_metrics import metrics_of, outcomes_of
from tests.support.working import beside, working


async def ask(address: str, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, address, path)


async def test_a_worker_is_ready_from_the_reply_of_a_job_server_until_it_stops(job_server: AnyJobServer) -> None:
    worker, may_end = Worker(job_server.address), asyncio.Event()

    @worker.function("wait")
    async def wait(job: WorkerJob) -> None:
        await may_end.wait()

    with worker.serve_http("127.0.0.1:0") as address:
        assert await ask(address, "/livez") == (200, "ok\n")
        assert await ask(address, "/readyz") == (503, "the worker is idle\n")
        async with Client([job_server.address]) as client, working(worker):
            await eventually(worker.ready)
            assert await ask(address, "/readyz") == (200, "ok\n")
            assert await ask(address, "/livez") == (200, "ok\n")
            job = client.submit("wait")
            await eventually(lambda: worker.statistics().running == 1)
            worker.stop()
            await eventually(lambda: worker.state == "stopping")
            assert await ask(address, "/readyz") == (503, "the worker is stopping\n")
            assert await ask(address, "/livez") == (200, "ok\n")
            may_end.set()
            await job
    with pytest.raises(OSError, match="refused"):
        get(address, "/livez")


async def test_a_worker_without_a_job_server_is_alive_but_not_ready() -> None:
    worker = Worker([f"127.0.0.1:{free_port()}"])
    worker.function("f")(lambda job: None)
    with worker.serve_http(":0") as address:
        async with worker:
            await eventually(lambda: worker.state == "running")
            assert await ask(address, "/readyz") == (503, "no job server has replied\n")
            assert await ask(address, "/livez") == (200, "ok\n")


async def test_a_stuck_event_loop_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "STUCK_AFTER", 0.3)
    monkeypatch.setattr(loop_watch, "_INTERVAL", 0.01)
    worker = Worker([f"127.0.0.1:{free_port()}"])
    worker.function("f")(lambda job: None)
    with worker.serve_http(":0") as address:
        async with worker:
            await wait_until_alive(address)
            # Not awaited, so the loop does not turn meanwhile.
            wait_until(lambda: get(address, "/livez")[0] == 503)
            assert get(address, "/livez")[1].startswith("the event loop has been stuck for ")
            await wait_until_alive(address)


async def wait_until_alive(address: str) -> None:
    """Wait for the loop, which may really be stuck for a moment on a busy machine."""
    async with asyncio.timeout(10):
        while await ask(address, "/livez") != (200, "ok\n"):
            pass


async def passing(job: WorkerJob, call: Any) -> Any:
    return await call(job)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A function of this test's own: the metrics are those of the process."""
    return str(request.node.name)


@pytest.mark.parametrize("middleware", [(), (passing,)])
@pytest.mark.parametrize("kind", ["coroutine", "plain"])
async def test_metrics_count_each_outcome_of_a_function(
    job_server: AnyJobServer, name: str, kind: str, middleware: Any
) -> None:
    worker = Worker([job_server.address], concurrency=3, middleware=middleware, max_packet_size=1024, prefix="shop")

    def plain(job: WorkerJob) -> bytes:
        if job.workload == b"fail":
            raise JobFailedError("reason")
        if job.workload == b"raise":
            raise ValueError("wrong")
        return b"done"

    async def coroutine(job: WorkerJob) -> bytes:
        return plain(job)

    worker.function(name)(coroutine if kind == "coroutine" else plain)
    with worker.serve_http(":0") as address:
        async with working(worker), Client([job_server.address], prefix="shop") as client:
            assert outcomes_of(address, name) == {"completed": 0, "failed": 0, "raised": 0, "lost": 0}
            workloads = [b"", b"", b"", b"fail", b"fail", b"raise", bytes(2000)]
            results = [result async for result in client.map(name, workloads, return_exceptions=True)]
            assert results[:3] == [b"done"] * 3
        assert outcomes_of(address, name) == {"completed": 3, "failed": 2, "raised": 2, "lost": 0}
        metrics = metrics_of(address, name)
        assert metrics["geartrain_job_seconds_count"] == 6
        assert 0 < metrics["geartrain_job_seconds_sum"] < 60
        assert metrics["geartrain_jobs_running"] == 0


@pytest.mark.parametrize("kind", ["coroutine", "plain"])
async def test_metrics_count_running_and_lost_jobs(job_server: AnyJobServer, name: str, kind: str) -> None:
    worker, may_end = Worker([job_server.address]), threading.Event()

    async def coroutine(job: WorkerJob) -> None:
        await asyncio.Event().wait()

    def plain(job: WorkerJob) -> None:
        may_end.wait(10)

    worker.function(name)(coroutine if kind == "coroutine" else plain)
    with worker.serve_http(":0") as address:
        async with Client([job_server.address]) as client:
            running = asyncio.create_task(worker.run())
            job = client.submit(name)
            await eventually(lambda: metrics_of(address, name)["geartrain_jobs_running"] == 1)
            _, text = await ask(address, "/metrics")
            assert f'geartrain_connections{{server="{job_server.address}"}} 1.0' in text
            running.cancel()
            await asyncio.wait([running])
            job.cancel()
        may_end.set()
        assert outcomes_of(address, name) == {"completed": 0, "failed": 0, "raised": 0, "lost": 1}
        assert metrics_of(address, name)["geartrain_jobs_running"] == 0
        _, text = await ask(address, "/metrics")
        assert f'geartrain_connections{{server="{job_server.address}"}} 0.0' in text


async def test_without_the_extra_only_metrics_are_missing(
    job_server: AnyJobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    worker = Worker([job_server.address])
    worker.function("f")(lambda job: b"done")
    with worker.serve_http(":0") as address:
        async with working(worker), Client([job_server.address]) as client:
            assert await client.do("f") == b"done"
            assert await ask(address, "/livez") == (200, "ok\n")
            assert await ask(address, "/metrics") == (501, "metrics require: pip install 'geartrain[metrics]'\n")


def test_a_port_in_use_or_an_invalid_address_is_an_error_at_start() -> None:
    worker = Worker()
    worker.function("f")(lambda job: None)
    with worker.serve_http(":0") as address, pytest.raises(OSError, match="in use"):
        worker.main(http=address)
    with pytest.raises(ValueError, match="invalid HTTP address 'nowhere'"):
        worker.main(http="nowhere")


def test_processes_need_the_multiprocess_mode_and_say_so() -> None:
    worker = Worker()
    worker.function("f", processes=2)(repr)
    with pytest.raises(LocalProtocolError, match="set PROMETHEUS_MULTIPROC_DIR to an empty directory"):
        worker.main(http=":0")


@pytest.mark.parametrize("package", [geartrain, blocking], ids=["asyncio", "blocking"])
def test_main_serves_while_it_runs(
    package: Any, job_server: AnyJobServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "geartrain")
    worker = package.Worker(job_server.address)
    worker.function(name)(lambda job: b"done")

    def drive() -> None:
        wait_until(worker.ready)
        [record] = [each for each in caplog.records if "serving" in each.message]
        address = record.message.rpartition("//")[2]
        assert get(address, "/readyz") == (200, "ok\n")
        with blocking.Client(job_server.address) as client:
            assert client.do(name) == b"done"
        wait_until(lambda: outcomes_of(address, name)["completed"] == 1)
        assert outcomes_of(address, name) == {"completed": 1, "failed": 0, "raised": 0, "lost": 0}
        os.kill(os.getpid(), signal.SIGTERM)

    with beside(drive):
        worker.main(http="127.0.0.1:0")
