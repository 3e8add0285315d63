"""Counting workers, on gearmand and on our own job server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from geartrain import Admin, Client, ClientDisconnectedError, NoServersError, NoWorkersError, Worker, WorkerJob
from geartrain.address import Address
from geartrain.client.runtime import ClientRuntime
from geartrain.client.worker_counts import FRESH_FOR, WorkerCounts
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, free_port
from tests.support.inside import set_worker_counts
from tests.support.job_server import AnyJobServer


async def reverse(job: WorkerJob) -> bytes:
    return job.workload[::-1]


@asynccontextmanager
async def serving(*servers: str, prefix: str = "") -> AsyncIterator[None]:
    worker = Worker(servers, prefix=prefix)
    worker.function("reverse")(reverse)
    running = asyncio.create_task(worker.run())
    try:
        await eventually(worker.ready)
        yield
    finally:
        worker.stop()
        await running


async def test_workers_for_counts_those_of_all_job_servers(job_server: AnyJobServer) -> None:
    async with Client([job_server.address, f"127.0.0.1:{free_port()}"]) as client:
        assert await client.workers_for("unknown") == 0
    async with serving(job_server.address, prefix="shop"), Client([job_server.address], prefix="shop") as client:
        assert await client.workers_for("reverse") == 1


async def test_workers_for_fails_if_no_job_server_can_be_reached() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Client([address]) as client:
        with pytest.raises(NoServersError, match="no job server could be asked for its workers") as caught:
            await client.workers_for("reverse")
    assert list(caught.value.errors) == [address]


async def test_a_task_that_requires_a_worker_fails_immediately_without_one(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        with pytest.raises(NoWorkersError, match="no worker is registered for reverse") as caught:
            await client.do("reverse", b"abc", require_worker=True)
        assert caught.value.function == "reverse"
        assert client.statistics().submitted == 0


async def test_a_task_that_requires_a_worker_runs_if_there_is_one(job_server: AnyJobServer) -> None:
    async with serving(job_server.address), Client([job_server.address]) as client:
        jobs = [client.submit("reverse", b"abc", require_worker=True) for _ in range(3)]
        assert await asyncio.gather(*jobs) == [b"cba"] * 3


async def test_a_task_that_requires_a_worker_goes_to_the_server_that_has_one(
    job_server: AnyJobServer, gearmand: Gearmand
) -> None:
    async with serving(gearmand.address), Client([job_server.address, gearmand.address], balance="first") as client:
        assert await client.do("reverse", b"abc", require_worker=True) == b"cba"


async def test_a_server_whose_workers_cannot_be_counted_is_tried_like_any_other() -> None:
    async with Client([f"127.0.0.1:{free_port()}"]) as client:
        with pytest.raises(NoServersError):
            await client.do("reverse", require_worker=True)


async def test_a_job_server_is_queried_once_for_many_tasks(
    job_server: AnyJobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    status = Admin.status

    async def counting(admin: Admin) -> object:
        asked.append(admin.job_server)
        return await status(admin)

    monkeypatch.setattr(Admin, "status", counting)
    async with Client([job_server.address]) as client:
        jobs = [client.submit("reverse", require_worker=True) for _ in range(20)]
        assert all(isinstance(end, NoWorkersError) for end in await asyncio.gather(*jobs, return_exceptions=True))
        await asyncio.gather(*(client.workers_for("reverse") for _ in range(3)))
    assert asked == [job_server.address]


async def test_a_job_that_waits_for_the_count_can_be_cancelled_timed_out_and_disconnected(
    job_server: AnyJobServer,
) -> None:
    async with Client([job_server.address]) as client:
        cancelled = client.submit("reverse", require_worker=True)
        cancelled.cancel()
        disconnected = client.submit("reverse", require_worker=True)
        counting = asyncio.create_task(client.workers_for("reverse"))
        await asyncio.sleep(0)
        await client.disconnect_all()
        assert cancelled.cancelled()
        with pytest.raises(ClientDisconnectedError):
            await disconnected
        with pytest.raises(ClientDisconnectedError):
            await counting


def test_a_worker_count_is_valid_for_a_second() -> None:
    now = 5.0
    runtime = cast("ClientRuntime", SimpleNamespace(loop=SimpleNamespace(time=lambda: now)))
    counts = WorkerCounts(runtime, lambda address: Admin(str(address)))
    address = Address.parse("10.0.0.1")
    assert counts.cached(address, "f") is None
    set_worker_counts(counts, address, now, {"f": 3})
    now += FRESH_FOR - 0.01
    assert counts.cached(address, "f") == 3
    assert counts.cached(address, "g") == 0
    now += 0.01
    assert counts.cached(address, "f") is None
