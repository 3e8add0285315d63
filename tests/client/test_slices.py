"""Ending or moving very many jobs happens in slices, one per turn of the loop, and covers every job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from geartrain import Client, ClientDisconnectedError, ConnectionLostError, Job, NoServersError
from geartrain.client.job import create_job
from geartrain.client.slices import Slices
from geartrain.client.task_spec import TaskSpec
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import connected, fake_client
from tests.support.fake_server import fake_server
from tests.support.inside import channels_of, dispatcher_of, submission_of, unassigned

SLICE = 10
COUNT = 4 * SLICE + 1
UNREACHABLE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("slices", "channel", "timeouts"):
        monkeypatch.setattr(f"geartrain.client.{module}.SLICE", SLICE)


class Turns:
    """Reads a count in each turn of the loop, and records the largest change."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._before = count()
        self._running = True
        self.largest = 0
        self.changes = 0
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = self._count()
        self.largest = max(self.largest, abs(now - self._before))
        self.changes += now != self._before
        self._before = now
        if self._running:
            asyncio.get_running_loop().call_soon(self._turn)

    def stop(self) -> None:
        self._running = False
        assert 1 <= self.largest <= SLICE
        assert self.changes >= COUNT // SLICE


@asynccontextmanager
async def slices_of(count: Callable[[], int]) -> AsyncIterator[None]:
    """Check that a count changes by at most one slice per turn."""
    turns = Turns(count)
    try:
        yield
    finally:
        turns.stop()


def ended(jobs: list[Any]) -> Callable[[], int]:
    return lambda: sum(job.done() for job in jobs)


def submit(client: Client, count: int = COUNT, **options: Any) -> list[Job]:
    return [client.submit("f", b"%d" % number, **options) for number in range(count)]


async def turns_until(condition: Callable[[], object]) -> None:
    """Return in the turn of the loop in which the condition becomes true."""
    while not condition():  # noqa: ASYNC110  # `eventually` lets many turns pass
        await asyncio.sleep(0)


async def errors_of(jobs: list[Any]) -> set[type[BaseException]]:
    await asyncio.wait(jobs)
    return {type(job.exception()) for job in jobs}


async def test_short_work_runs_immediately_and_long_work_in_later_turns() -> None:
    steps: list[str] = []
    idle: list[int] = []
    slices = Slices(asyncio.get_running_loop(), lambda: idle.append(len(steps)))

    def work(name: str, count: int) -> Iterator[None]:
        for _ in range(count):
            steps.append(name)
            yield

    slices.add(work("a", 3))
    assert slices.is_idle
    slices.add(work("b", SLICE))
    assert len(steps) == SLICE
    slices.add(work("c", SLICE))
    waiting = [asyncio.ensure_future(slices.wait()) for _ in range(2)]
    assert len(steps) == SLICE
    assert not slices.is_idle
    await asyncio.sleep(0)
    waiting[0].cancel()
    await waiting[1]
    assert steps == ["a"] * 3 + ["b"] * SLICE + ["c"] * SLICE
    assert idle == [3, len(steps)]


async def test_work_added_by_other_work_runs_after_it() -> None:
    slices = Slices(asyncio.get_running_loop(), lambda: None)
    steps: list[str] = []

    def inner() -> Iterator[None]:
        steps.append("inner")
        yield

    def outer() -> Iterator[None]:
        slices.add(inner())
        steps.append("outer")
        yield

    slices.add(outer())
    assert steps == ["outer", "inner"]


@pytest.mark.parametrize("in_map", [False, True])
async def test_a_lost_connection(in_map: bool) -> None:
    async with connected() as (client, _, peer):
        if in_map:
            results = client.map("f", [b""] * COUNT, limit=COUNT, return_exceptions=True)
            first = asyncio.ensure_future(anext(results))
            await eventually(lambda: client.statistics().outstanding)
        else:
            jobs = submit(client)
        for number in range(3):
            await peer.expect_job(b"H:%d" % number)
        async with slices_of(lambda: client.statistics().failed):
            peer.close()
            if in_map:
                assert isinstance(await first, ConnectionLostError)
                await eventually(lambda: client.statistics().failed == COUNT)
                await results.aclose()
            else:
                assert await errors_of(jobs) == {ConnectionLostError}
        if not in_map:
            assert [job.handle and job.handle.handle for job in jobs[:4]] == ["H:0", "H:1", "H:2", None]


async def test_a_job_cancelled_before_it_is_notified_of_a_lost_connection_is_not_notified() -> None:
    async with connected() as (client, server, peer):
        jobs = submit(client)
        merged = [client.submit("f", unique="u") for _ in range(3)]
        call = asyncio.ensure_future(client.do("f"))
        results = client.map("f", [b""] * 3)
        leaving = asyncio.ensure_future(anext(results))
        for number in range(COUNT + 2):
            await peer.expect_job(b"H:merged" if number >= COUNT else b"H:%d" % number)
        await merged[1].created()
        peer.close()
        await turns_until(lambda: client.statistics().failed)
        for future in (jobs[-1], merged[0], merged[2], call, leaving):
            assert not future.done()
            future.cancel()
        other = client.submit("f", b"other")
        peer = await server.accept()
        assert await errors_of([*jobs[:-1], merged[1]]) == {ConnectionLostError}
        assert await peer.expect_job(b"H:1") == [b"f", b"", b"other"]
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"of the new connection")
        assert await other == b"of the new connection"
        await asyncio.wait([call, leaving])
        statistics = client.statistics()
        assert statistics.outstanding == 0
        assert statistics.cancelled >= 4


async def test_a_try_that_times_out_before_it_is_notified_of_a_lost_connection_is_retried_once() -> None:
    async with connected() as (client, server, peer):
        jobs = submit(client)
        last = client.submit("f", b"last", try_timeout=60, retry_count=5)
        for number in range(COUNT + 1):
            await peer.expect_job(b"H:%d" % number)
        await last.created()
        peer.close()
        await turns_until(lambda: client.statistics().failed)
        submission_of(last).on_try_timeout()
        peer = await server.accept()
        await errors_of(jobs)
        assert (await peer.expect_job(b"H:1"))[2] == b"last"
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"")
        await last
        assert last.tries == 2


async def test_an_unreachable_job_server() -> None:
    async with Client([UNREACHABLE]) as client:
        jobs = submit(client)
        queries = [asyncio.ensure_future(client.get_status(f"{UNREACHABLE}//H:1")) for _ in range(COUNT)]
        async with slices_of(ended(jobs)), asyncio.timeout(10):
            await asyncio.wait(jobs)
        assert len(await errors_of(queries)) == 1


async def test_waiting_jobs_of_a_dropped_server_move_to_another() -> None:
    async with connected(max_outstanding=1) as (client, server, peer), fake_server() as other:
        first, *jobs = submit(client)
        await peer.expect_job(b"H:first")
        client.set_job_servers([other.address, server.address])
        client.set_job_servers([other.address])
        assert client.statistics().servers[server.address].waiting
        jobs[-1].cancel()
        last = await other.accept()
        for number in range(COUNT - 2):
            assert (await last.expect_job(b"H:%d" % number))[2] == b"%d" % (number + 1)
            last.send(PacketType.WORK_COMPLETE, b"H:%d" % number, b"")
        peer.send(PacketType.WORK_COMPLETE, b"H:first", b"")
        await asyncio.wait([first, *jobs])
        assert await peer.at_end()


async def test_disconnecting() -> None:
    async with connected(max_outstanding=COUNT) as (client, server, _):
        jobs = submit(client, 2 * COUNT, retry_count=3, try_timeout=0.001)
        async with slices_of(ended(jobs)):
            await client.disconnect_all()
            assert await errors_of(jobs) == {ClientDisconnectedError}
        assert server.connections == 1
        assert dispatcher_of(client).is_unused


async def test_disconnecting_after_a_lost_connection() -> None:
    async with connected() as (client, _, peer):
        jobs = submit(client, retry_count=3)
        await eventually(lambda: client.statistics().outstanding == COUNT)
        peer.close()
        await turns_until(lambda: client.statistics().failed)
        await client.disconnect_all()
        assert await errors_of(jobs) == {ClientDisconnectedError}


async def test_timeouts() -> None:
    async with connected() as (client, _, _):
        jobs = submit(client, timeout=0.05)
        async with slices_of(ended(jobs)):
            await asyncio.wait(jobs)


async def test_retries() -> None:
    async with Client([UNREACHABLE]) as client:
        dispatcher = dispatcher_of(client)
        jobs = [create_job(TaskSpec("f", {}), b"", dispatcher) for _ in range(COUNT)]
        for job in jobs:
            dispatcher.dispatch_later(submission_of(job), 0.01)
        async with slices_of(lambda: unassigned(client)):
            assert await errors_of(jobs) == {NoServersError}


async def test_jobs_that_wait_for_a_worker_count() -> None:
    async with Client([UNREACHABLE]) as client:
        jobs = submit(client, require_worker=True)
        jobs[0].cancel()
        async with slices_of(lambda: unassigned(client)):
            await asyncio.wait(jobs)


async def test_leaving_a_map() -> None:
    async with connected() as (client, _, peer):
        results = client.map("f", (b"" for _ in range(COUNT)), limit=COUNT, unique="u")
        first = asyncio.ensure_future(anext(results))
        await peer.expect_job(b"H:1")
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"")
        await first
        async with slices_of(lambda: client.statistics().cancelled):
            await results.aclose()
            await client.drain(timeout=10)
        assert client.statistics().cancelled == COUNT - 1


async def test_sending_after_connecting() -> None:
    async with fake_client() as (client, server):
        jobs = submit(client)
        queries = [asyncio.ensure_future(client.get_status(f"{server.address}//H:1")) for _ in range(COUNT)]
        async with slices_of(lambda: client.statistics().submitted):
            peer = await server.accept()
            for _ in range(COUNT):
                await peer.expect(PacketType.GET_STATUS)
                peer.send(PacketType.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
            for number in range(COUNT):
                assert (await peer.expect_job(b"H:%d" % number))[2] == b"%d" % number
                peer.send(PacketType.WORK_COMPLETE, b"H:%d" % number, b"")
        await asyncio.wait(queries)
        await asyncio.wait(jobs)


async def test_a_channel_sends_one_slice_per_turn_however_often_it_is_advanced() -> None:
    """Each job that ends advances the channel while other jobs wait there."""
    async with fake_client() as (client, server):
        jobs = submit(client)
        await turns_until(lambda: client.statistics().submitted)
        [channel] = channels_of(client)
        before = client.statistics().submitted
        assert before < COUNT
        for _ in range(3):
            channel.advance()
        assert client.statistics().submitted == before
        await eventually(lambda: client.statistics().submitted == COUNT)
        await server.accept()
        for job in jobs:
            job.cancel()


async def test_a_channel_needs_to_be_advanced_only_while_jobs_wait_there() -> None:
    async with connected(max_outstanding=1) as (client, _, peer):
        [channel] = channels_of(client)
        jobs = submit(client, 3)
        assert channel.needs_advance
        for number in range(3):
            await peer.expect_job(b"H:%d" % number)
            assert channel.needs_advance is (number < 2), "no job waits after the last one was sent"
            peer.send(PacketType.WORK_COMPLETE, b"H:%d" % number, b"")
            await jobs[number]
