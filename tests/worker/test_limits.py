from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import geartrain.worker.run
from geartrain.protocol.packets import PacketType
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.memory import resident_memory
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer
from tests.support.working import working
from tests.worker.test_run import jobs_of
from tests.worker.test_worker import Gate, add_reverse


async def test_jobs_that_do_not_end_within_the_grace_period_are_returned(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, gate = Worker(job_server.address, concurrency=2, grace=0.1), Worker(job_server.address), Gate()
    first.function("reverse")(gate)
    add_reverse(second)

    @first.function("quick")
    async def quick(job: WorkerJob) -> str:
        await go_on.wait()
        return "in time"

    go_on = asyncio.Event()
    async with connected(job_server.address) as client, connected(job_server.address) as other, working(first) as run:
        await client.submit("reverse", b"ab")
        await other.submit("quick")
        await eventually(lambda: first.statistics().running == 2)
        first.stop()
        go_on.set()
        assert await other.updates() == [("WORK_COMPLETE", b"in time")]
        await run
        assert gate.running == 0
        async with working(second):
            assert await client.updates() == [("WORK_COMPLETE", b"ba")]
    assert [record.getMessage() for record in caplog.records] == [
        "returning 1 jobs that did not end within the grace period of 0.1 s"
    ]


async def test_a_worker_stops_after_exactly_max_jobs(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address, concurrency=4, max_jobs=7)
    add_reverse(worker)
    async with connected(job_server.address) as client:
        for _ in range(10):
            await client.submit("reverse", kind=PacketType.SUBMIT_JOB_BG)
    await asyncio.wait_for(worker.run(), 10)
    assert worker.statistics().completed == 7
    await eventually(lambda: jobs_of(job_server, "reverse") == (3, 0, 0))


async def test_max_jobs_counts_jobs_but_not_empty_replies_or_lost_grabs(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, max_jobs=2, regrab_interval=0.01)
    add_reverse(worker)
    async with working(worker) as run:
        for workload in (b"ab", b"cd"):
            await eventually(worker.ready)
            async with connected(gearmand.address) as client:
                assert await client.do("reverse", workload) == ("WORK_COMPLETE", workload[::-1])
            gearmand.restart()
        await asyncio.wait_for(asyncio.shield(run), 10)


async def test_a_worker_that_exceeds_max_memory_stops_after_its_running_jobs(
    gearmand: Gearmand, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [1000]
    monkeypatch.setattr(geartrain.worker.run, "resident_memory", lambda: sizes[0])
    worker, gate = Worker(gearmand.address, max_memory=1000, regrab_interval=0.01), Gate()
    worker.function("f")(gate)
    async with working(worker) as run, connected(gearmand.address) as client:
        await client.submit("f", b"x")
        await eventually(lambda: gate.running)
        sizes[0] = 1001
        await eventually(lambda: worker.state == "stopping")
        gate.open()
        assert await client.updates() == [("WORK_COMPLETE", b"x")]
        await asyncio.wait_for(asyncio.shield(run), 10)


def test_the_memory_of_this_process_is_measured() -> None:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    expected = int(lines["VmRSS"].split()[0]) * 1024
    assert expected * 0.9 < resident_memory() < expected * 1.1


def test_without_proc_the_peak_memory_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("geartrain.worker.memory._STATM", str(tmp_path / "missing"))
    assert resident_memory() > 1024 * 1024
