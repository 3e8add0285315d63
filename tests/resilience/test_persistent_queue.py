"""A gearmand with a persistent queue stores one job per function and unique; background jobs survive its restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from geartrain import Admin, Client, JobHandle, Priority
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.proxy import Proxy, Way
from tests.support.raw_worker import echo_worker

COUNT = 5
PAST = 1  # seconds since the epoch
FUTURE = 4_000_000_000  # in the year 2096

Submit: TypeAlias = Callable[..., Awaitable[list[JobHandle]]]


@pytest.fixture
def gearmand(tmp_path: Path) -> Iterator[Gearmand]:
    """A gearmand that stores background jobs in a file."""
    with Gearmand(tmp_path, ["-q", "libsqlite3", "--libsqlite3-db", str(tmp_path / "queue")]) as server:
        yield server


async def by_do_background(client: Client, workloads: list[bytes], **options: Any) -> list[JobHandle]:
    return await asyncio.gather(*(client.do_background("f", workload, **options) for workload in workloads))


async def by_submit(client: Client, workloads: list[bytes], **options: Any) -> list[JobHandle]:
    jobs = [client.submit("f", workload, background=True, **options) for workload in workloads]
    await asyncio.gather(*jobs)
    return [handle for job in jobs if (handle := job.handle) is not None]


async def by_map(client: Client, workloads: list[bytes], **options: Any) -> list[JobHandle]:
    async with aclosing(client.map("f", workloads, background=True, **options)) as handles:
        return [handle async for handle in handles if isinstance(handle, JobHandle)]


WAYS = {"do_background": by_do_background, "submit": by_submit, "map": by_map}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "high": {"priority": Priority.HIGH},
    "low": {"priority": Priority.LOW},
    "run_at": {"run_at": PAST},
    "retry_count": {"retry_count": 2},
    "timeout": {"timeout": 60, "try_timeout": 60},
    "on_complete": {"on_complete": lambda _: None},
}


@pytest.mark.parametrize("way", WAYS)
async def test_every_background_job_survives_a_restart(way: str, gearmand: Gearmand) -> None:
    workloads = {name: [f"{name} {number}".encode() for number in range(COUNT)] for name in OPTIONS}
    handles: list[JobHandle] = []
    async with Client([gearmand.address]) as client:
        for name, options in OPTIONS.items():
            handles += await WAYS[way](client, workloads[name], **options)
    gearmand.restart()
    async with echo_worker(gearmand.address, "f") as done:
        await eventually(lambda: len(done) >= COUNT * len(OPTIONS))
    sent = [workload for some in workloads.values() for workload in some]
    expected = {handle.unique: workload for handle, workload in zip(handles, sent, strict=True)}
    assert {job.unique.decode(): job.workload for job in done} == expected
    assert len(done) == len(sent)


async def test_jobs_that_are_not_due_yet_survive_a_restart(gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as client:
        for submit in WAYS.values():
            # gearmand 1.1.20 does not restart with a stored job that has an empty workload.
            await submit(client, [b"later"] * COUNT, run_at=FUTURE)
    gearmand.restart()
    async with Admin(gearmand.address) as admin:
        assert [(row.function, row.total) for row in await admin.status()] == [("f", len(WAYS) * COUNT)]


@asynccontextmanager
async def unacknowledged(gearmand: Gearmand, submit: Submit) -> AsyncIterator[tuple[Proxy, asyncio.Future[Any]]]:
    """Jobs with a retry that gearmand has accepted, while its replies are held back."""
    async with Proxy(gearmand.address) as proxy, Client([proxy.address], exceptions=False) as client:
        await client.ping()
        proxy.stall(Way.TO_CLIENT)
        workloads = [b"%d" % number for number in range(COUNT)]
        submitting = asyncio.ensure_future(submit(client, workloads, retry_count=1))
        async with Admin(gearmand.address) as admin:
            while [row.total for row in await admin.status()] != [COUNT]:  # noqa: ASYNC110  # each turn asks gearmand
                await asyncio.sleep(0)
        yield proxy, submitting


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trouble", ["lost", "restarted"])
async def test_a_retry_of_a_stored_job_does_not_create_a_second_job(way: str, trouble: str, gearmand: Gearmand) -> None:
    async with unacknowledged(gearmand, WAYS[way]) as (proxy, submitting):
        if trouble == "restarted":
            gearmand.restart()
        await proxy.reset()
        proxy.resume()
        handles = await submitting
    async with echo_worker(gearmand.address, "f") as done:
        await eventually(lambda: len(done) >= COUNT)
        async with Client([gearmand.address]) as client:  # queued after all of them
            await client.do("f", b"last")
    assert sorted(job.workload for job in done) == [*(b"%d" % number for number in range(COUNT)), b"last"]
    assert {job.unique.decode() for job in done[:-1]} == {handle.unique for handle in handles}
