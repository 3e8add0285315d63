"""Plain jobs of a ``map`` that are sent in batches: success, failure, retries and cancellation."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from geartrain import ClientDisconnectedError, ConnectionLostError, JobExceptionError, JobHandle, JobLostError
from geartrain.client.submission_batch import MAX_BATCHED_WORKLOAD
from geartrain.client.task_spec import TaskSpec
from geartrain.protocol.packets import RESPONSE, PacketType, encode
from tests.support.eventually import eventually
from tests.support.fake_client import connected, handles
from tests.support.fake_server import FakePeer
from tests.support.inside import channels_of, dispatcher_of, session_of_client

P = PacketType


async def accept(peer: FakePeer, count: int) -> None:
    """Accept the given number of jobs, with the handles H:0, H:1 and so on."""
    for number in range(count):
        await peer.expect_job(b"H:%d" % number)


def all_of(results: AsyncGenerator[Any, None]) -> asyncio.Future[list[Any]]:
    async def collect() -> list[Any]:
        return [result async for result in results]

    return asyncio.ensure_future(collect())


async def test_results_come_in_the_order_of_the_workloads_however_they_end() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b", b"c"]))
        await accept(peer, 3)
        for number in (2, 0, 1):
            peer.send(P.WORK_DATA, b"H:%d" % number, b"unused data")
            peer.send(P.WORK_STATUS, b"H:%d" % number, b"1", b"2")
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"%d" % number)
        assert await results == [b"0", b"1", b"2"]
        statistics = client.statistics()
        assert (statistics.submitted, statistics.completed, statistics.outstanding) == (4, 4, 0)


async def test_each_failure_belongs_to_its_own_workload() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b", b"c", b"d"], return_exceptions=True))
        await peer.expect_job(b"H:0")
        await peer.expect(P.SUBMIT_JOB)
        peer.send(P.ERROR, b"QUEUE_FULL", b"no room")
        await peer.expect_job(b"H:2")
        await peer.expect_job(b"H:3")
        peer.send(P.WORK_FAIL, b"H:3")
        peer.send(P.WORK_EXCEPTION, b"H:0", b"oops")
        peer.send(P.WORK_COMPLETE, b"H:2", b"fine")
        first, second, third, fourth = await results
        assert isinstance(first, JobExceptionError)
        assert first.data == b"oops"
        assert "QUEUE_FULL" in str(second)
        assert third == b"fine"
        assert "H:3" in str(fourth)
        assert client.statistics().failed == 3


async def test_a_failed_job_is_retried_with_its_own_workload() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b", b"c"], retry_count=1))
        await accept(peer, 3)
        peer.send(P.WORK_FAIL, b"H:1")
        assert await peer.expect_job(b"H:again") == [b"f", b"", b"b"]
        for handle in (b"H:0", b"H:2", b"H:again"):
            peer.send(P.WORK_COMPLETE, handle, handle)
        assert await results == [b"H:0", b"H:again", b"H:2"]
        assert client.statistics().retried == 1


async def test_jobs_of_a_lost_connection_are_retried_on_the_next() -> None:
    async with connected() as (client, server, peer):
        results = all_of(client.map("f", [b"a", b"b", b"c"], retry_count=1))
        await accept(peer, 2)
        peer.send(P.WORK_COMPLETE, b"H:0", b"before")
        await eventually(lambda: client.statistics().completed == 2)
        peer.close()
        peer = await server.accept()
        again = {(await peer.expect_job(handle))[2]: handle for handle in (b"H:1", b"H:2")}
        assert again.keys() == {b"b", b"c"}
        for workload, handle in again.items():
            peer.send(P.WORK_COMPLETE, handle, workload)
        assert await results == [b"before", b"b", b"c"]


async def test_the_errors_of_a_lost_connection_have_the_outcome_of_each_job() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b"], return_exceptions=True))
        await peer.expect_job(b"H:0")
        await eventually(lambda: handles(client))
        peer.close()
        first, second = await results
        assert isinstance(first, ConnectionLostError)
        assert first.outcome == "accepted"
        assert first.handle == "H:0"
        assert isinstance(second, ConnectionLostError)
        assert second.outcome == "unacknowledged"


async def test_disconnecting_ends_all_jobs() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b"], return_exceptions=True))
        await peer.expect_job(b"H:0")
        await client.disconnect_all()
        assert [type(result) for result in await results] == [ClientDisconnectedError] * 2
        assert client.statistics().outstanding == 0


async def test_leaving_early_discards_jobs_with_and_without_a_handle() -> None:
    async with connected() as (client, _, peer):
        results = client.map("f", [b"a", b"b", b"c"])
        waiting = asyncio.ensure_future(anext(results))
        await accept(peer, 2)
        peer.send(P.WORK_COMPLETE, b"H:0", b"first")
        assert await waiting == b"first"
        await results.aclose()
        assert client.statistics().cancelled == 2
        other = client.submit("f", b"other")
        await peer.expect_job(b"H:2")
        await peer.expect_job(b"H:other")
        for handle in (b"H:1", b"H:2", b"H:other"):
            peer.send(P.WORK_COMPLETE, handle, handle)
        assert await other == b"H:other"
        assert session_of_client(client).protocol.late_packets == 2


async def test_leaving_early_reports_no_unretrieved_errors() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with connected() as (client, _, peer):
        results = client.map("f", [b"a", b"b", b"c"])
        waiting = asyncio.ensure_future(anext(results))
        await accept(peer, 3)
        for number in (2, 1):
            peer.send(P.WORK_FAIL, b"H:%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:0", b"first")
        assert await waiting == b"first"
        await results.aclose()
        gc.collect()
        assert not reported


async def test_background_jobs_give_their_handles_in_order() -> None:
    async with connected() as (client, _, peer):
        handles = all_of(client.map("f", [b"a", b"b"], background=True))
        for number in range(2):
            await peer.expect(P.SUBMIT_JOB_BG)
            peer.send(P.JOB_CREATED, b"H:%d" % number)
        assert await handles == [JobHandle(client.job_servers[0], f"H:{number}") for number in range(2)]


async def test_a_dropped_server_is_closed_when_it_has_accepted_the_last_background_job() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with connected() as (client, server, peer):
        handles = all_of(client.map("f", [b"a", b"b"], background=True))
        for _ in range(2):
            await peer.expect(P.SUBMIT_JOB_BG)
        client.set_job_servers(["127.0.0.1:1"])
        peer.write(b"".join(encode(P.JOB_CREATED, b"H:%d" % number, magic=RESPONSE) for number in range(2)))
        assert await handles == [JobHandle(server.address, f"H:{number}") for number in range(2)]
        assert await peer.at_end()
    assert not reported


async def test_a_silent_job_unknown_to_its_server_is_lost() -> None:
    async with connected(heartbeat=0.2) as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b"], return_exceptions=True))
        await accept(peer, 2)
        arguments: list[bytes] = []
        while arguments != [b"H:1"]:
            kind, arguments = await peer.receive()
            if kind is P.GET_STATUS:
                peer.send(P.STATUS_RES, *arguments, b"1" if arguments == [b"H:0"] else b"0", b"0", b"0", b"0")
            else:
                peer.send(P.ECHO_RES, *arguments)
        peer.send(P.WORK_COMPLETE, b"H:0", b"still here")
        first, second = await results
        assert first == b"still here"
        assert isinstance(second, JobLostError)
        assert second.handle == "H:1"


async def test_giving_two_jobs_the_same_handle_breaks_the_protocol() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b"], return_exceptions=True))
        await peer.expect_job(b"H:0")
        await peer.expect_job(b"H:0")
        for result in await results:
            assert isinstance(result, ConnectionLostError)
            assert "'H:0' to two jobs" in str(result)


@pytest.mark.parametrize(("count", "at_once"), [(249, False), (250, True), (2100, True)])
async def test_large_batches_are_written_before_the_turn_of_the_loop_ends(count: int, at_once: bool) -> None:
    async with connected() as (client, _, peer):
        [channel] = channels_of(client)
        before = channel.bytes_sent
        batch = dispatcher_of(client).submit_batch(TaskSpec("f", {}), [b"w"] * count)
        assert batch is not None
        assert (channel.bytes_sent > before) == at_once
        for number in range(count):
            await peer.expect_job(b"H:%d" % number)
        assert list(batch.cancel()) == []


async def test_a_batch_does_not_exceed_max_outstanding() -> None:
    async with connected(max_outstanding=2) as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b", b"c"]))
        await accept(peer, 2)
        assert client.statistics().outstanding == 2
        peer.send(P.WORK_COMPLETE, b"H:0", b"0")
        await peer.expect_job(b"H:2")
        for number in (1, 2):
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"%d" % number)
        assert await results == [b"0", b"1", b"2"]


@pytest.mark.parametrize("size", [MAX_BATCHED_WORKLOAD, MAX_BATCHED_WORKLOAD + 1])
async def test_large_workloads_are_sent_whole(size: int) -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [bytes(size), b"b"]))
        assert (await peer.expect_job(b"H:0"))[2] == bytes(size)
        assert (await peer.expect_job(b"H:1"))[2] == b"b"
        for number in range(2):
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"%d" % number)
        assert await results == [b"0", b"1"]


async def test_a_function_that_is_too_long_with_the_prefix_is_rejected_and_nothing_is_counted() -> None:
    async with connected(prefix="namespace") as (client, _, _):
        with pytest.raises(ValueError, match="at most 512 bytes with its prefix"):
            await anext(client.map("f" * 510, [b"a", b"b"]))
        assert client.statistics().outstanding == 0
        await client.drain(timeout=10)


async def test_draining_waits_for_batches() -> None:
    async with connected() as (client, _, peer):
        results = all_of(client.map("f", [b"a", b"b"]))
        await accept(peer, 2)
        draining = asyncio.ensure_future(client.drain())
        for number in range(2):
            assert not draining.done()
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"%d" % number)
            await eventually(lambda number=number: client.statistics().completed == number + 2)  # type: ignore[misc]
        await draining
        assert await results == [b"0", b"1"]
