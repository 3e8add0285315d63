"""A finished Task and its Job are freed without the garbage collector, however the job ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from geartrain import Client, Job, JobFailedError, Task
from geartrain.client.dispatcher import Dispatcher
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client
from tests.support.fake_server import FakePeer
from tests.support.inside import channels_of, has_recent_jobs, session_of_client, submission_of

P = PacketType


def note(*_: object) -> None:
    """A callback."""


OPTIONS: dict[str, Any] = {
    "plain": {},
    "unique": {"unique": "u"},
    "timeouts": {"timeout": 60, "try_timeout": 50},
    "callbacks": {"on_created": note, "on_data": note, "on_complete": note, "on_fail": note},
    "background": {"background": True},
}


@asynccontextmanager
async def without_collector() -> AsyncIterator[None]:
    """Disable the garbage collector: only reference counting frees objects."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def submit(client: Client, peer: FakePeer | None, **options: Any) -> tuple[Job, Callable[[], bool]]:
    """Submit a new task; return the job, and a function that returns whether both are freed."""
    task = Task("f", b"w", **options)
    job = client.add_task(task)
    references = weakref.ref(task), weakref.ref(job)
    if peer is not None:
        await peer.expect_job(b"H:1")
        await job.created()
    return job, lambda: references[0]() is None and references[1]() is None


async def complete(job: Job, peer: FakePeer) -> None:
    peer.send(P.WORK_DATA, b"H:1", b"x")
    peer.send(P.WORK_COMPLETE, b"H:1", b"x")
    await asyncio.wait([job])


async def fail(job: Job, peer: FakePeer) -> None:
    peer.send(P.WORK_FAIL, b"H:1")
    await asyncio.wait([job])


async def throw(job: Job, peer: FakePeer) -> None:
    peer.send(P.WORK_EXCEPTION, b"H:1", b"x")
    await asyncio.wait([job])


async def cancel(job: Job, peer: FakePeer) -> None:
    job.cancel()


async def time_out(job: Job, peer: FakePeer) -> None:
    submission_of(job).on_timeout()  # as the timer would


async def lose(job: Job, peer: FakePeer) -> None:
    peer.close()
    await asyncio.wait([job])


async def disconnect(job: Job, peer: FakePeer) -> None:
    scheduler = submission_of(job).scheduler
    assert isinstance(scheduler, Dispatcher)
    scheduler.disconnect()
    await scheduler.runtime.wait_closed()


End = Callable[[Job, FakePeer], Coroutine[Any, Any, None]]
ENDS: list[End] = [complete, fail, throw, cancel, time_out, lose, disconnect]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "background"])
async def test_a_job_is_freed_with_its_task(end: End, options: str) -> None:
    async with fake_client() as (client, server), without_collector():
        opening = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:0")
        await opening.created()
        opening.cancel()
        job, freed = await submit(client, peer, **OPTIONS[options])
        await end(job, peer)
        if not job.cancelled():
            job.exception()
        del job
        if end in (cancel, time_out):
            # The job server does not know that the job was discarded.
            peer.send(P.WORK_COMPLETE, b"H:1", b"late")
        await eventually(freed, within=2)


async def test_a_background_job_is_freed_when_it_is_accepted() -> None:
    async with fake_client() as (client, server), without_collector():
        opening = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:0")
        job, freed = await submit(client, peer, background=True)
        await job
        del job
        await eventually(freed, within=2)
        opening.cancel()


async def test_a_discarded_job_is_freed_although_its_reply_is_pending() -> None:
    async with fake_client() as (client, server), without_collector():
        job, freed = await submit(client, None, unique="u", timeout=60)
        peer = await server.accept()
        await peer.expect_job()
        job.cancel()
        del job
        await eventually(freed, within=2)


async def test_a_job_that_was_never_sent_is_freed() -> None:
    async with Client(["127.0.0.1:1"]) as client, without_collector():
        job, freed = await submit(client, None)
        await asyncio.wait([job])
        job.exception()
        del job
        await eventually(freed, within=2)


async def test_a_job_is_freed_after_its_retries() -> None:
    async with fake_client() as (client, server), without_collector():
        job, freed = await submit(client, None, retry_count=2, on_retry=note)
        peer = await server.accept()
        for _ in range(2):
            await peer.expect_job(b"H:1")
            peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job(b"H:1")
        await complete(job, peer)
        del job
        await eventually(freed, within=2)


@pytest.mark.parametrize("failing", [False, True])
async def test_a_job_that_was_awaited_and_iterated_is_freed(failing: bool) -> None:
    """An exception refers to the frames that it passed; only the garbage collector frees that cycle."""
    async with fake_client() as (client, server):
        job, freed = await submit(client, None)
        updates = aiter(job)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_DATA, b"H:1", b"part")
        peer.send(*((P.WORK_FAIL, b"H:1") if failing else (P.WORK_COMPLETE, b"H:1", b"")))
        async for _ in updates:
            pass
        with pytest.raises(JobFailedError) if failing else contextlib.nullcontext():
            await job
        del job, updates
        gc.collect()
        await eventually(freed, within=2)


async def test_ten_thousand_jobs_leave_nothing_in_the_client() -> None:
    async with fake_client() as (client, server):
        opening = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:0")
        peer.send(P.WORK_COMPLETE, b"H:0", b"")
        await opening

        async def serve() -> None:
            for number in range(10_000):
                await peer.expect_job(b"H:%d" % number)
                peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"")

        serving = asyncio.create_task(serve())
        gc.collect()
        before = len(gc.get_objects())
        async for _ in client.map("f", (b"" for _ in range(10_000)), limit=100, timeout=60):
            pass
        await serving
        gc.collect()
        assert len(gc.get_objects()) - before < 200


async def test_an_idle_connection_forgets_recent_jobs() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        [channel] = channels_of(client)
        await eventually(lambda: channel.session is not None and has_recent_jobs(channel.session))
        session = session_of_client(client)
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        await eventually(lambda: not has_recent_jobs(session))
