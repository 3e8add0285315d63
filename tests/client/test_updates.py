"""Iterating a job: no update is lost after ``aiter``, and the number of buffered updates is bounded."""

from __future__ import annotations

import asyncio
import gc

import pytest

from geartrain import Job, JobData, JobFailedError, JobProgress, JobWarning
from geartrain.client.session import ClientSession
from geartrain.client.updates import MAX_SIZE, MAX_UPDATES
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL
from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import FakePeer, fake_server
from tests.support.inside import (
    details_of,
    heartbeat_count,
    held_updates,
    is_pausing,
    pause_count,
    session_of,
    submission_of,
    transport_of,
)
from tests.support.wire import packet

P = PacketType
# More than the socket buffers hold, so some of it cannot arrive while the client does not read.
FLOOD = 400
PIECE = b"x" * 64 * 1024


def flood(peer: FakePeer, handle: bytes = b"H:1", count: int = FLOOD) -> None:
    peer.write(b"".join(packet(P.WORK_DATA, handle, b"%d " % n + PIECE, magic=RESPONSE) for n in range(count)))


async def test_updates_come_in_wire_order_and_end_with_the_job() -> None:
    async with submitted() as (job, peer, _client):
        peer.send(P.WORK_DATA, b"H:1", b"a\0b")
        peer.send(P.WORK_WARNING, b"H:1", b"mind")
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"4")
        peer.send(P.WORK_STATUS, b"H:1", b"0.5", b"0")
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        updates = [update async for update in job]
        assert updates == [JobData(b"a\0b"), JobWarning(b"mind"), JobProgress(1, 4), JobProgress(0.5, 0)]
        assert [update.fraction for update in updates if isinstance(update, JobProgress)] == [0.25, None]
        assert await job == b"result"


async def test_the_iteration_ends_without_an_error_when_the_job_fails() -> None:
    async with submitted() as (job, peer, _client):
        peer.send(P.WORK_DATA, b"H:1", b"part")
        peer.send(P.WORK_FAIL, b"H:1")
        assert [update async for update in job] == [JobData(b"part")]
        with pytest.raises(JobFailedError):
            await job


async def test_a_job_that_has_ended_has_no_updates() -> None:
    async with submitted() as (job, peer, _client):
        peer.send(P.WORK_DATA, b"H:1", b"part")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        assert [update async for update in job] == []


async def test_no_update_is_lost_after_aiter_was_called() -> None:
    async with submitted() as (job, peer, _client):
        updates = aiter(job)
        peer.send(P.WORK_DATA, b"H:1", b"1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        assert [update async for update in updates] == [JobData(b"1")]


async def test_a_job_may_be_iterated_before_it_is_sent_and_across_its_tries() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f", retry_count=1)
        updates = aiter(job)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_DATA, b"H:1", b"first try")
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_DATA, b"H:2", b"second try")
        peer.send(P.WORK_COMPLETE, b"H:2", b"")
        assert [update async for update in updates] == [JobData(b"first try"), JobData(b"second try")]


async def test_each_consumer_has_an_iterator_of_its_own() -> None:
    async with submitted() as (job, peer, _client):
        early = aiter(job)
        peer.send(P.WORK_DATA, b"H:1", b"1")
        assert await anext(early) == JobData(b"1")
        late = aiter(job)
        peer.send(P.WORK_DATA, b"H:1", b"2")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        assert [update async for update in early] == [JobData(b"2")]
        assert [update async for update in late] == [JobData(b"2")]


async def test_a_second_consumer_of_an_iterator_is_an_error() -> None:
    async with submitted() as (job, _peer, _client):
        updates = aiter(job)
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="give each its own by aiter"):
            await anext(updates)
        job.cancel()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_cancelling_the_wait_for_an_update_loses_no_update() -> None:
    async with submitted() as (job, peer, _client):
        updates = aiter(job)
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        peer.send(P.WORK_DATA, b"H:1", b"1")
        assert await anext(updates) == JobData(b"1")
        job.cancel()


@pytest.mark.parametrize("end", ["cancel", "disconnect"])
async def test_the_iteration_ends_when_the_application_ends_the_job(end: str) -> None:
    async with submitted() as (job, _peer, client):
        waiting = asyncio.ensure_future(anext(aiter(job)))
        await asyncio.sleep(0)
        if end == "cancel":
            job.cancel()
        else:
            await client.disconnect_all()
            assert job.exception() is not None
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_consumer_that_does_not_read_pauses_its_connection() -> None:
    async with submitted() as (job, peer, client):
        updates = aiter(job)
        flood(peer)
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        await eventually(lambda: held_updates(updates) >= MAX_UPDATES)
        session = session_of(job)
        before = session.connection.bytes_received
        other = client.submit("f")  # is sent anyway
        await peer.expect_job(b"H:2")
        assert session.connection.bytes_received == before
        assert held_updates(updates) < FLOOD
        assert not job.done()
        numbers = [int(update.data.split()[0]) async for update in updates if isinstance(update, JobData)]
        assert numbers == list(range(FLOOD))
        assert await job == b"result"
        await other.created()
        other.cancel()


async def test_a_few_large_updates_pause_the_connection_too() -> None:
    async with submitted() as (job, peer, _client):
        updates = aiter(job)
        for _ in range(8):
            peer.send(P.WORK_DATA, b"H:1", bytes(MAX_SIZE // 4))
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await eventually(lambda: is_pausing(updates))
        assert MAX_SIZE <= updates._size < 2 * MAX_SIZE
        assert [len(update.data) async for update in updates if isinstance(update, JobData)] == [MAX_SIZE // 4] * 8
        assert updates._size == 0


async def test_only_the_connection_of_the_slow_consumer_is_paused() -> None:
    async with submitted() as (slow, peer, _client), submitted() as (other, other_peer, _):
        updates = aiter(slow)
        flood(peer)
        await eventually(lambda: held_updates(updates) >= MAX_UPDATES)
        other_peer.send(P.WORK_COMPLETE, b"H:1", b"goes on")
        assert await other == b"goes on"
        slow.cancel()


async def test_two_slow_consumers_must_both_catch_up() -> None:
    async with submitted() as (job, peer, _client):
        first, second = aiter(job), aiter(job)
        flood(peer)
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        await eventually(lambda: held_updates(second) >= MAX_UPDATES)
        for _ in range(MAX_UPDATES):
            await anext(first)
        assert not job.done()
        assert len([update async for update in second]) == FLOOD
        assert len([update async for update in first]) == FLOOD - MAX_UPDATES


@pytest.mark.parametrize("end", ["consumer", "job", "timeout"])
async def test_reading_resumes_when_the_slow_consumer_is_gone(end: str) -> None:
    async with submitted(timeout=60 if end == "timeout" else None) as (job, peer, client):
        updates = aiter(job)
        flood(peer)
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        await eventually(lambda: held_updates(updates) >= MAX_UPDATES)
        if end == "consumer":
            del updates
            assert await job == b"result"
        elif end == "job":
            job.cancel()
        else:
            submission_of(job).on_timeout()
            assert isinstance(job.exception(), TimeoutError)
        other = client.submit("f")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"goes on")
        assert await asyncio.wait_for(other, 10) == b"goes on"


async def test_a_slow_consumer_pauses_the_connection_of_the_next_try_too() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f", retry_count=1)
        updates = aiter(job)
        first = await server.accept()
        await first.expect_job(b"H:1")
        flood(first, count=MAX_UPDATES)
        await eventually(lambda: held_updates(updates) >= MAX_UPDATES)
        session_of(job).fail(ConnectionResetError("cut"))
        second = await server.accept()
        await second.expect_job(b"H:1")
        flood(second, count=FLOOD)
        await eventually(lambda: held_updates(updates) > MAX_UPDATES)
        await job.created()
        assert pause_count(session_of(job)) == 1
        held = held_updates(updates)
        second.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert held < len([update async for update in updates]) == MAX_UPDATES + FLOOD


async def test_a_slow_consumer_pauses_only_the_connection_of_the_current_try() -> None:
    async with fake_client() as (client, server), fake_server() as other:
        job, neighbour = client.submit("f", retry_count=1), client.submit("f")
        updates = aiter(job)
        first = await server.accept()
        await first.expect_job(b"H:1")
        await first.expect_job(b"H:2")
        first_session = await connected_session(neighbour)
        for number in range(MAX_UPDATES):
            first.send(P.WORK_STATUS, b"H:1", b"%d" % number, b"0")
        await eventually(lambda: pause_count(first_session) == 1)
        client.set_job_servers([other.address])
        submission_of(job).on_try_timeout()
        second = await other.accept()
        await second.expect_job(b"H:1")
        second_session = await connected_session(job)
        assert (pause_count(first_session), pause_count(second_session)) == (1, 0), (
            "the updates of the first try are still held"
        )
        second.send(P.WORK_STATUS, b"H:1", b"7", b"7")
        await eventually(lambda: held_updates(updates) > MAX_UPDATES)
        assert (pause_count(first_session), pause_count(second_session)) == (0, 1)
        first.send(P.WORK_COMPLETE, b"H:2", b"goes on")
        assert await asyncio.wait_for(neighbour, 10) == b"goes on"
        second.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert len([update async for update in updates]) == MAX_UPDATES + 1
        assert pause_count(second_session) == 0
        assert await job == b"result"


async def test_reading_resumes_when_the_last_consumer_has_caught_up() -> None:
    async with submitted() as (job, _peer, _client):
        session = await connected_session(job)
        transport = transport_of(session.connection)
        assert transport is not None
        reading = []
        for step in (session.pause_reading, session.pause_reading, session.resume_reading, session.resume_reading):
            step()
            reading.append(transport.is_reading())
        assert reading == [False, False, False, True]
        job.cancel()


async def test_a_dropped_iterator_is_freed_immediately() -> None:
    async with submitted() as (job, _peer, _client):
        updates = aiter(job)
        details = details_of(job)
        assert list(details.updates or ()) == [updates]
        gc.disable()
        try:
            del updates
            assert not details.updates
        finally:
            gc.enable()
        job.cancel()


async def test_a_connection_paused_by_a_slow_consumer_is_not_considered_silent() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        updates = aiter(job)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        flood(peer, count=FLOOD)
        await eventually(lambda: held_updates(updates) >= MAX_UPDATES)
        session = session_of(job)
        query = asyncio.ensure_future(client.get_status(f"{server.address}//H:1"))
        before = heartbeat_count(session)
        await eventually(lambda: session.is_closed or heartbeat_count(session) > before + 4 * CHECKS_PER_INTERVAL)
        assert not session.is_closed
        query.cancel()
        job.cancel()


async def connected_session(job: Job) -> ClientSession:
    """Wait until a job has its handle, and return its connection."""
    await job.created()
    return session_of(job)
