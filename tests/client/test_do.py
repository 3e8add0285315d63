"""``do`` and ``do_background``: success, failure, retries, timeouts and cancellation."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from geartrain import (
    Client,
    ClientDisconnectedError,
    ConnectionLostError,
    JobExceptionError,
    JobFailedError,
    JobHandle,
    JobLostError,
    JobTimeoutError,
    ServerError,
    Task,
)
from geartrain.protocol.packets import RESPONSE, PacketType, encode
from tests.support.eventually import eventually
from tests.support.fake_client import connected, handles, protocol
from tests.support.fake_server import FakePeer, FakeServer
from tests.support.inside import dispatcher_of, session_of_client

P = PacketType


def start(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(call)


@asynccontextmanager
async def submitted(**options: Any) -> AsyncIterator[tuple[asyncio.Task[Any], Client, FakeServer, FakePeer]]:
    """A call that the job server has received but not answered."""
    async with connected() as (client, server, peer):
        call = start(client.do("f", b"w", **options))
        assert await peer.expect(P.SUBMIT_JOB) == [b"f", b"", b"w"]
        yield call, client, server, peer


@asynccontextmanager
async def accepted(**options: Any) -> AsyncIterator[tuple[asyncio.Task[Any], Client, FakeServer, FakePeer]]:
    """A call whose job has the handle ``H:1``."""
    async with submitted(**options) as (call, client, server, peer):
        peer.send(P.JOB_CREATED, b"H:1")
        await eventually(lambda: b"H:1" in handles(client))
        yield call, client, server, peer


def deadlines(client: Client) -> int:
    return len(dispatcher_of(client).timeouts._jobs)


async def still_works(client: Client, peer: FakePeer) -> None:
    """Check that the next call gets its own result, and nothing is left of earlier ones."""
    call = start(client.do("f", b"next"))
    await peer.expect_job(b"H:next")
    peer.send(P.WORK_COMPLETE, b"H:next", b"fine")
    assert await call == b"fine"
    statistics = client.statistics()
    assert statistics.outstanding == 0
    assert statistics.submitted == statistics.completed + statistics.failed + statistics.cancelled
    assert not handles(client)
    assert not deadlines(client)
    await client.drain()


async def answer_late(client: Client, peer: FakePeer, stage: object) -> None:
    """Check that packets of a discarded call are dropped and counted."""
    if stage is submitted:
        peer.send(P.JOB_CREATED, b"H:1")
    peer.send(P.WORK_COMPLETE, b"H:1", b"late")
    await still_works(client, peer)
    assert protocol(client).late_packets >= 1


async def test_the_result_is_the_body_of_work_complete_regardless_of_updates() -> None:
    async with accepted(timeout=30) as (call, client, _, peer):
        peer.send(P.WORK_DATA, b"H:1", b"unused data")
        peer.send(P.WORK_WARNING, b"H:1", b"unused warning")
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"2")
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert await call == b"result"
        await still_works(client, peer)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((P.WORK_FAIL, b"H:1"), JobFailedError),
        ((P.WORK_EXCEPTION, b"H:1", b"oops"), JobExceptionError),
        ((P.ERROR, b"QUEUE_FULL", b"no room"), ServerError),
    ],
)
@pytest.mark.parametrize("timeout", [None, 30])
async def test_a_failure_raises_its_error_or_is_retried(
    answer: tuple[Any, ...], error: type[Exception], timeout: float | None
) -> None:
    stage = submitted if answer[0] is P.ERROR else accepted
    async with stage(timeout=timeout) as (call, client, _, peer):
        peer.send(*answer)
        with pytest.raises(error):
            await call
        await still_works(client, peer)
    async with stage(timeout=timeout, retry_count=1) as (call, client, _, peer):
        peer.send(*answer)
        assert await peer.expect_job(b"H:2") == [b"f", b"", b"w"]
        peer.send(P.WORK_COMPLETE, b"H:2", b"second")
        assert await call == b"second"
        assert client.statistics().retried == 1
        await still_works(client, peer)


async def test_the_error_of_a_lost_connection_has_the_outcome_and_handle() -> None:
    async with submitted() as (call, _, _, peer):
        peer.close()
        with pytest.raises(ConnectionLostError) as unacknowledged:
            await call
        assert unacknowledged.value.outcome == "unacknowledged"
    async with accepted() as (call, _, _, peer):
        peer.close()
        with pytest.raises(ConnectionLostError) as lost:
            await call
        assert (lost.value.outcome, lost.value.handle) == ("accepted", "H:1")


async def test_a_job_of_a_lost_connection_is_retried_on_the_next() -> None:
    async with accepted(retry_count=1) as (call, client, server, peer):
        peer.close()
        peer = await server.accept()
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"second")
        assert await call == b"second"
        await still_works(client, peer)


async def test_a_job_unknown_to_its_silent_server_is_lost() -> None:
    async with connected(heartbeat=0.2) as (client, _, peer):
        call = start(client.do("f", b"w"))
        await peer.expect_job(b"H:1")
        while (request := await peer.receive())[0] is not P.GET_STATUS:
            peer.send(P.ECHO_RES, *request[1])
        peer.send(P.STATUS_RES, *request[1], b"0", b"0", b"0", b"0")
        with pytest.raises(JobLostError, match="H:1"):
            await call


@pytest.mark.parametrize("stage", [submitted, accepted])
async def test_the_timeout_raises_job_timeout_error(stage: Any) -> None:
    async with stage(timeout=0.4, retry_count=3) as (call, client, _, peer):
        with pytest.raises(JobTimeoutError) as caught:
            await call
        assert (caught.value.scope, caught.value.seconds) == ("job", 0.4)
        assert caught.value.handle == ("H:1" if stage is accepted else None)
        assert client.statistics().failed == 1
        await answer_late(client, peer, stage)


async def test_the_timeout_covers_retries() -> None:
    async with accepted(timeout=0.4, retry_count=1) as (call, client, _, peer):
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job(b"H:2")
        with pytest.raises(JobTimeoutError) as caught:
            await call
        assert caught.value.handle == "H:2"
        await still_works(client, peer)


@pytest.mark.parametrize("stage", [submitted, accepted])
@pytest.mark.parametrize("timeout", [None, 30])
async def test_cancelling_the_call_discards_the_job(stage: Any, timeout: float | None) -> None:
    async with stage(timeout=timeout) as (call, client, _, peer):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.statistics().cancelled == 1
        await answer_late(client, peer, stage)


async def test_cancelling_the_call_during_a_retry_discards_the_job() -> None:
    async with accepted(retry_count=1) as (call, client, _, peer):
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job(b"H:2")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.statistics().cancelled == 1
        await still_works(client, peer)


@pytest.mark.parametrize("answer", [(P.WORK_COMPLETE, b"H:1", b"result"), (P.WORK_FAIL, b"H:1")])
@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_reply_in_the_same_turn_as_the_cancellation_is_counted_once(
    answer: tuple[Any, ...], cancelled_first: bool
) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with accepted(timeout=30) as (call, client, _, peer):
        session = session_of_client(client)
        if cancelled_first:
            call.cancel()
        session.data_received(encode(*answer, magic=RESPONSE))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.statistics().cancelled == 0
        await still_works(client, peer)
        del call
        gc.collect()
        assert not reported


@pytest.mark.parametrize(
    "answer", [(P.ERROR, b"QUEUE_FULL", b"no room"), (P.JOB_CREATED, b"H:1"), None], ids=["refused", "accepted", "lost"]
)
async def test_a_failure_in_the_same_turn_as_the_cancellation_is_not_retried(
    answer: tuple[Any, ...] | None,
) -> None:
    async with connected() as (client, _, peer):
        call = start(client.do_background("f", b"w", retry_count=1))
        await peer.expect(P.SUBMIT_JOB_BG)
        session = session_of_client(client)
        call.cancel()
        if answer is None:
            session.fail(ConnectionResetError("cut"))
        else:
            session.data_received(encode(*answer, magic=RESPONSE))
        with pytest.raises(asyncio.CancelledError):
            await call
        statistics = client.statistics()
        assert (statistics.retried, statistics.outstanding) == (0, 0)
        if answer is not None:
            await still_works(client, peer)


async def test_disconnecting_ends_the_call() -> None:
    for stage in (submitted, accepted):
        async with stage(timeout=30) as (call, client, _, _):
            await client.disconnect_all()
            with pytest.raises(ClientDisconnectedError):
                await call
            assert client.statistics().outstanding == 0
            assert not deadlines(client)


async def test_do_background_returns_the_handle() -> None:
    async with connected() as (client, _, peer):
        call = start(client.do_background("f", b"w"))
        function, unique, workload = await peer.expect(P.SUBMIT_JOB_BG)
        assert (function, len(unique), workload) == (b"f", 16, b"w")
        peer.send(P.JOB_CREATED, b"H:1")
        assert await call == JobHandle(client.job_servers[0], "H:1")
        await still_works(client, peer)


async def test_do_background_retries_and_returns_the_last_handle() -> None:
    async with connected() as (client, _, peer):
        call = start(client.do_background("f", b"w", retry_count=1))
        await peer.expect(P.SUBMIT_JOB_BG)
        peer.send(P.ERROR, b"QUEUE_FULL", b"no room")
        await peer.expect(P.SUBMIT_JOB_BG)
        peer.send(P.JOB_CREATED, b"H:2")
        assert await call == JobHandle(client.job_servers[0], "H:2")


async def test_cancelling_do_background_discards_the_job() -> None:
    async with connected() as (client, _, peer):
        call = start(client.do_background("f", b"w"))
        await peer.expect(P.SUBMIT_JOB_BG)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        peer.send(P.JOB_CREATED, b"H:1")
        await still_works(client, peer)


@pytest.mark.parametrize("workload", [b"w", "w", bytearray(b"w"), memoryview(b"w")])
async def test_a_workload_may_be_text_or_any_bytes_like_object(workload: Any) -> None:
    async with connected() as (client, _, peer):
        call = start(client.do("f", workload))
        assert await peer.expect_job(b"H:1") == [b"f", b"", b"w"]
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await call


async def test_invalid_arguments_raise_each_time_and_nothing_is_sent() -> None:
    async with connected() as (client, _, peer):
        for _ in range(2):
            with pytest.raises(TypeError, match="a workload must be bytes or str, got 1"):
                await client.do("f", 1)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="a function must have 1 to 512 bytes"):
                await client.do("")
            with pytest.raises(TypeError, match="no option mistake"):
                await client.do("f", mistake=[])  # type: ignore[call-arg]
            with pytest.raises(TypeError, match="a function"):
                await client.do(["f"])  # type: ignore[arg-type]
        await still_works(client, peer)


async def test_calls_of_one_turn_are_sent_in_their_order() -> None:
    async with connected() as (client, _server, peer):
        calls: list[Coroutine[Any, Any, Any]] = [
            client.do("f", b"1"),
            client.do("f", b"2"),
            client.do_background("f", b"3"),
            client.do("f", b"4", unique="u"),
            client.do("f", b"5"),
            client.get_status_unique("status"),
            client.do("g", b"6"),
        ]
        tasks = [start(each) for each in calls]
        await asyncio.sleep(0)
        jobs = [client.submit("f", b"7"), client.submit("f", b"8", run_at=1, background=True), client.submit("f", b"9")]
        order = [(await peer.receive())[1][-1] for _ in (*tasks, *jobs)]
        assert order == [b"1", b"2", b"3", b"4", b"5", b"status", b"6", b"7", b"8", b"9"]
        await client.disconnect_all()
        await asyncio.gather(*tasks, *jobs, return_exceptions=True)


async def test_calls_of_one_turn_are_written_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, event_loop_name: str
) -> None:
    async with connected() as (client, _server, peer):
        core = protocol(client)
        send, pieces = core._send, []

        def watch(piece: bytes) -> None:
            pieces.append(piece)
            send(piece)

        monkeypatch.setattr(core, "_send", watch)
        tasks = [start(client.do("f", b"%d" % number)) for number in range(100)]
        if not event_loop_name.endswith("eager"):  # eager tasks have already submitted
            await asyncio.sleep(0)
        jobs = [client.submit("f", b"%d" % number) for number in range(100, 200)]
        for number in range(200):
            assert (await peer.expect_job(b"H:%d" % number))[-1] == b"%d" % number
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"%d" % number)
        assert await asyncio.gather(*tasks, *jobs) == [b"%d" % number for number in range(200)]
        assert [piece.count(b"\0REQ") for piece in pieces] == [200]


async def test_a_workload_over_max_packet_size_is_rejected_and_affects_no_other_job() -> None:
    message = re.escape("a workload of 1025 bytes exceeds max_packet_size 1024")
    longest, too_long = bytes(1024), bytes(1025)
    async with connected(max_packet_size=1024) as (client, _server, peer):
        call = start(client.do("f", longest))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match=message):
            await client.do("f", too_long)
        with pytest.raises(ValueError, match=message):
            await client.do("f", too_long, timeout=5)
        with pytest.raises(ValueError, match=message):
            await client.do_background("f", too_long)
        with pytest.raises(ValueError, match=message):
            client.submit("f", too_long, timeout=5, unique="u")
        with pytest.raises(ValueError, match=message):
            client.add_task(Task("f", too_long))
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"fine")
        assert await call == b"fine"
        assert not deadlines(client)
        await still_works(client, peer)
