"""The counters of a client add up, whatever happens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from geartrain import Client, ServerStatistics
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client
from tests.support.fake_server import FakePeer, fake_server
from tests.support.inside import session_of

P = PacketType


def counts(client: Client) -> dict[str, Any]:
    """Return the counters of the only server, and check that they add up."""
    (server,) = client.statistics().servers.values()
    assert server.submitted == server.completed + server.failed + server.cancelled + server.outstanding
    return server._asdict()


def changed(client: Client, before: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of the counters."""
    names = ("outstanding", "submitted", "completed", "failed", "cancelled", "retried", "waiting", "late")
    after = counts(client)
    return {name: after[name] - before[name] for name in names if after[name] != before[name]}


async def test_the_counters_of_an_unused_client_are_zero() -> None:
    async with Client(["10.0.0.1"]) as client:
        assert client.statistics().servers == {
            "10.0.0.1:4730": ServerStatistics("idle", None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        }
    assert Client().statistics().servers == {}


async def test_each_outcome_of_a_job_has_its_counter() -> None:
    async with fake_client() as (client, server):
        first = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:0")
        await first.created()

        async def end(what: str, **options: Any) -> dict[str, Any]:
            before = counts(client)
            job = client.submit("f", **options)
            await peer.expect_job()
            handle = b"H:%d" % before["submitted"]
            await ENDS[what](peer, handle, job)
            await asyncio.wait([job])
            return changed(client, before)

        assert await end("complete") == {"submitted": 1, "completed": 1}
        assert await end("accept", background=True) == {"submitted": 1, "completed": 1}
        assert await end("fail") == {"submitted": 1, "failed": 1}
        assert await end("raise") == {"submitted": 1, "failed": 1}
        assert await end("refuse") == {"submitted": 1, "failed": 1}
        assert await end("cancel") == {"submitted": 1, "cancelled": 1}
        assert await end("cancel late") == {"submitted": 1, "cancelled": 1, "late": 2}
        assert await end("wait", timeout=0.01) == {"submitted": 1, "failed": 1}
        assert await end("wait", try_timeout=0.01) == {"submitted": 1, "failed": 1}
        assert await end("fail, then complete", retry_count=1) == {
            "submitted": 2,
            "failed": 1,
            "retried": 1,
            "completed": 1,
        }
        before = counts(client)
        await client.disconnect_all()
        assert changed(client, before) == {"outstanding": -1, "failed": 1, "late": -2}


async def complete(peer: FakePeer, handle: bytes, job: object) -> None:
    peer.send(P.JOB_CREATED, handle)
    peer.send(P.WORK_COMPLETE, handle, b"")


async def accept(peer: FakePeer, handle: bytes, job: object) -> None:
    peer.send(P.JOB_CREATED, handle)


async def fail(peer: FakePeer, handle: bytes, job: object) -> None:
    peer.send(P.JOB_CREATED, handle)
    peer.send(P.WORK_FAIL, handle)


async def throw(peer: FakePeer, handle: bytes, job: object) -> None:
    peer.send(P.JOB_CREATED, handle)
    peer.send(P.WORK_EXCEPTION, handle, b"")


async def refuse(peer: FakePeer, handle: bytes, job: object) -> None:
    peer.send(P.ERROR, b"X", b"")


async def cancel(peer: FakePeer, handle: bytes, job: Any) -> None:
    peer.send(P.JOB_CREATED, handle)
    await job.created()
    job.cancel()


async def cancel_late(peer: FakePeer, handle: bytes, job: Any) -> None:
    session = session_of(job)
    late = session.protocol.late_packets
    await cancel(peer, handle, job)
    peer.send(P.WORK_DATA, handle, b"")
    peer.send(P.WORK_COMPLETE, handle, b"")
    await eventually(lambda: session.protocol.late_packets == late + 2)


async def fail_then_complete(peer: FakePeer, handle: bytes, job: object) -> None:
    await fail(peer, handle, job)
    await peer.expect_job()
    await complete(peer, handle + b"again", job)


ENDS = {
    "complete": complete,
    "accept": accept,
    "fail": fail,
    "raise": throw,
    "refuse": refuse,
    "cancel": cancel,
    "cancel late": cancel_late,
    "wait": accept,
    "fail, then complete": fail_then_complete,
}


async def test_all_jobs_of_a_lost_connection_are_counted_as_failed() -> None:
    async with fake_client() as (client, server):
        jobs = [client.submit("f", retry_count=n) for n in (0, 1)]
        peer = await server.accept()
        for number in range(2):
            await peer.expect_job(b"H:%d" % number)
        peer.close()
        await asyncio.wait(jobs[:1])
        counters = counts(client)
        assert (counters["submitted"], counters["failed"], counters["retried"], counters["outstanding"]) == (2, 2, 1, 0)
        jobs[1].cancel()  # it waits for its retry and is assigned to no server
        assert counts(client)["cancelled"] == 0


async def test_state_time_and_bytes_of_a_connection_are_shown() -> None:
    async with fake_client() as (client, server):
        begin = datetime.now(UTC)
        job = client.submit("f", b"workload")
        assert counts(client)["state"] == "connecting"
        assert counts(client)["waiting"] == 1
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        counters = counts(client)
        assert (counters["state"], counters["waiting"], counters["outstanding"]) == ("connected", 0, 1)
        assert begin <= counters["connected_since"] <= datetime.now(UTC)
        assert counters["bytes_sent"] == 12 + len(b"f\0\0workload")
        assert counters["bytes_received"] == 12 + len(b"H:1")
        peer.close()
        with pytest.raises(Exception, match="was lost"):
            await job
        counters = counts(client)
        assert (counters["state"], counters["connected_since"]) == ("dead", None)
        assert (counters["bytes_sent"], counters["bytes_received"]) == (23, 15), (
            "the counters must outlive the connection"
        )


async def test_the_totals_cover_all_servers() -> None:
    async with (
        fake_server() as one,
        fake_server() as two,
        Client([one.address, two.address], exceptions=False, balance="round-robin") as client,
    ):
        jobs = [client.submit("f") for _ in range(4)]
        for server in (one, two):
            peer = await server.accept()
            await peer.expect_job(b"H:1")
            peer.send(P.WORK_COMPLETE, b"H:1", b"")
            await peer.expect_job(b"H:2")
            peer.send(P.WORK_FAIL, b"H:2")
        await asyncio.wait(jobs)
        statistics = client.statistics()
        assert list(statistics.servers) == [one.address, two.address]
        assert (statistics.submitted, statistics.completed, statistics.failed) == (4, 2, 2)
        assert (statistics.outstanding, statistics.cancelled, statistics.retried) == (0, 0, 0)
        for job in jobs:
            job.exception()
