"""Job servers that do not reply or violate the protocol: only their own connection is lost, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from geartrain import (
    Client,
    ConnectionLostError,
    Job,
    JobLostError,
    JobStatus,
    JobTooLargeError,
    NoServersError,
    RemoteProtocolError,
)
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL
from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import FakePeer, fake_server
from tests.support.inside import heartbeat_count, session_of
from tests.support.wire import packet

P = PacketType


def cause(error: BaseException | None) -> BaseException | None:
    """Return the error that closed a connection."""
    assert isinstance(error, ConnectionLostError)
    return error.__cause__


async def receive_probe(peer: FakePeer) -> list[bytes]:
    """Reply to all heartbeats, and return the handle of the job that is probed."""
    while True:
        kind, arguments = await peer.receive()
        if kind is P.GET_STATUS:
            return arguments
        assert kind is P.ECHO_REQ
        peer.send(P.ECHO_RES, *arguments)


# Silence.


async def test_a_server_that_never_replies_is_lost_after_the_heartbeat() -> None:
    async with fake_client(heartbeat=0.1) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job()
        with pytest.raises(ConnectionLostError, match=r"did not reply within 0.1 s") as caught:
            await job
        assert caught.value.outcome == "unacknowledged"
        assert isinstance(cause(caught.value), TimeoutError)
        assert await peer.at_end()


async def test_a_request_without_a_reply_is_lost_after_the_heartbeat() -> None:
    async with fake_client(heartbeat=0.1) as (client, server):
        with pytest.raises(ConnectionLostError, match="before it answered GET_STATUS"):
            await client.get_status(f"{server.address}//H:1")
        assert isinstance((await client.ping())[server.address], ConnectionLostError)


async def test_a_silent_server_with_an_accepted_job_is_probed_and_lost() -> None:
    """Half-open: the peer vanished without closing the connection."""
    async with fake_client(heartbeat=0.1) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        assert await receive_probe(peer) == [b"H:1"]
        with pytest.raises(ConnectionLostError) as caught:
            await job
        assert caught.value.outcome == "accepted"


async def test_a_server_that_replies_may_keep_a_job_for_any_time() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        for _ in range(4):
            kind, arguments = await peer.receive()
            if kind is P.ECHO_REQ:
                peer.send(P.ECHO_RES, *arguments)
            else:
                peer.send(P.STATUS_RES, b"H:1", b"1", b"1", b"0", b"0")
        assert not job.done()
        peer.send(P.WORK_COMPLETE, b"H:1", b"at last")
        assert await job == b"at last"


async def test_without_a_heartbeat_nothing_is_probed_or_lost() -> None:
    async with fake_client(heartbeat=None) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        session = session_of(job)
        assert session is not None
        assert not session.has_timer
        job.cancel()


async def test_an_idle_connection_is_probed_at_each_heartbeat() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        for _ in range(3):
            (asked,) = await peer.expect(P.ECHO_REQ)
            peer.send(P.ECHO_RES, asked)
        assert server.connections == 1
        again = client.submit("f")
        await peer.expect_job(b"H:2")
        again.cancel()


async def test_an_idle_connection_to_a_vanished_server_is_replaced_before_the_next_job() -> None:
    """A NAT or a firewall drops an idle connection without notifying either side."""
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        await eventually(lambda: client.statistics().servers[server.address].state == "idle")
        again = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"second")
        assert await again == b"second"


async def test_a_job_that_its_server_has_lost_raises_job_lost_error() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await receive_probe(peer)
        peer.send(P.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
        with pytest.raises(JobLostError, match=r"no longer knows the job f .* and never said how it ended") as caught:
            await job
        assert (caught.value.server, caught.value.handle) == (server.address, "H:1")


async def test_a_lost_job_is_retried_if_retries_are_left() -> None:
    async with fake_client(heartbeat=0.05) as (client, server):
        job = client.submit("f", retry_count=1, unique="u")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await receive_probe(peer)
        peer.send(P.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"right")
        assert await job == b"right"


async def test_a_server_that_never_reads_delays_submissions_but_not_the_loop() -> None:
    async with fake_client(heartbeat=0.3) as (client, server):
        first = client.submit("f", b"x" * 32 * 1024 * 1024)
        await eventually(lambda: client.statistics().submitted)
        await asyncio.sleep(0)  # until the packets are written
        others = [client.submit("f") for _ in range(3)]
        assert client.statistics().servers[server.address].waiting == 3
        with pytest.raises(ConnectionLostError) as caught:
            await first
        assert isinstance(cause(caught.value), TimeoutError)
        await server.accept()
        peer = await server.accept()  # unsent jobs go out over a new connection, and use no retry
        for number, job in enumerate(others):
            await peer.expect_job(b"H:%d" % number)
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"")
            await job


async def test_a_removed_server_that_never_reads_does_not_delay_shutdown() -> None:
    async with fake_client(heartbeat=None) as (client, server):
        job = client.submit("f", b"x" * 32 * 1024 * 1024)
        await eventually(lambda: client.statistics().submitted)
        job.cancel()
        client.set_job_servers([])
        async with asyncio.timeout(5):
            await client.aclose()
        assert (await server.accept()).reader is not None


# Protocol violations.

WRONG: dict[str, tuple[bytes, str]] = {
    "garbage": (b"HTTP/1.1 400 Bad Request\r\n", "a packet must begin with"),
    "text": (b"ERR UNKNOWN_COMMAND\r\n", "a packet must begin with"),
    "a request": (packet(P.ECHO_REQ, b"x"), r"begin with \0RES, got \0REQ"),
    "an oversize packet announced": (b"\0RES" + (17).to_bytes(4) + b"\xff\xff\xff\xff", "announced 4294967295 bytes"),
    "unexpected JOB_CREATED": (packet(P.JOB_CREATED, b"H:9", magic=RESPONSE), "unexpected JOB_CREATED"),
    "unexpected ECHO_RES": (packet(P.ECHO_RES, b"H:9", magic=RESPONSE), "unexpected ECHO_RES"),
    "unexpected ERROR": (packet(P.ERROR, b"X", b"y", magic=RESPONSE), "unexpected ERROR X 'y'"),
    "a result without its arguments": (packet(P.WORK_COMPLETE, b"H:1", magic=RESPONSE), "needs 2 arguments"),
    "numbers without their arguments": (packet(P.WORK_STATUS, b"H:1", b"1", magic=RESPONSE), "needs 3 arguments"),
}


@asynccontextmanager
async def next_to_another(**options: object) -> AsyncIterator[tuple[Job, FakePeer, Job, FakePeer, Client]]:
    """A job at each of two servers of one client."""
    async with (
        fake_server() as one,
        fake_server() as two,
        Client([one.address, two.address], exceptions=False, balance="round-robin") as client,
    ):
        jobs = client.submit("f", **options), client.submit("f")  # type: ignore[arg-type]  # keyword options
        peers = await one.accept(), await two.accept()
        for job, peer in zip(jobs, peers, strict=True):
            await peer.expect_job(b"H:1")
            await job.created()
        yield jobs[0], peers[0], jobs[1], peers[1], client


@pytest.mark.parametrize("name", WRONG)
async def test_a_protocol_violation_is_reported_and_closes_only_its_connection(name: str) -> None:
    data, message = WRONG[name]
    async with next_to_another() as (job, peer, other, other_peer, client):
        peer.write(data)
        with pytest.raises(ConnectionLostError) as caught:
            await job
        assert isinstance(cause(caught.value), RemoteProtocolError)
        assert message in str(caught.value)
        assert await peer.at_end()
        other_peer.send(P.WORK_COMPLETE, b"H:1", b"first")
        assert await other == b"first"
        again = client.submit("f")
        await other_peer.expect_job(b"H:2")
        other_peer.send(P.WORK_COMPLETE, b"H:2", b"second")
        assert await again == b"second"


async def test_packets_before_a_violation_count() -> None:
    async with fake_client() as (client, server):
        first, second = client.submit("f"), client.submit("f")
        peer = await server.accept()
        await peer.expect_job()
        await peer.expect_job()
        peer.write(
            packet(P.JOB_CREATED, b"H:1", magic=RESPONSE)
            + packet(P.WORK_COMPLETE, b"H:1", b"good", magic=RESPONSE)
            + b"garbage, and more"
        )
        assert await first == b"good"
        with pytest.raises(ConnectionLostError):
            await second


async def test_the_wrong_reply_to_a_request_closes_the_connection() -> None:
    async with fake_client() as (client, server):
        asking = asyncio.ensure_future(client.get_status(f"{server.address}//H:1"))
        peer = await server.accept()
        await peer.expect(P.GET_STATUS)
        peer.send(P.STATUS_RES, b"H:2", b"1", b"1", b"0", b"0")
        with pytest.raises(ConnectionLostError, match="expected STATUS_RES for 'H:1', got it for 'H:2'"):
            await asking


async def test_invalid_numbers_in_a_status_count_as_zero() -> None:
    async with fake_client() as (client, server):
        asking = asyncio.ensure_future(client.get_status_unique("u"))
        peer = await server.accept()
        await peer.expect(P.GET_STATUS_UNIQUE)
        peer.send(P.STATUS_RES_UNIQUE, b"u", b"1", b"maybe", b"", b"9" * 300 + b"e99", b"9" * 300 + b"e99")
        assert await asking == JobStatus(True, False, 0, 0, 0)


async def test_packets_that_mean_nothing_to_a_client_are_skipped() -> None:
    async with submitted() as (job, peer, _client):
        for kind in (0, 43, 1000, 0x7FFFFFFF, 0xFFFFFFFF, P.NOOP, P.NO_JOB, P.JOB_ASSIGN, P.SUBMIT_JOB):
            peer.send(kind, b"H:1", b"x")
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"


async def test_results_of_unknown_jobs_are_dropped_and_counted() -> None:
    async with submitted() as (job, peer, client):
        for handle in (b"H:2", b"", b"H:1 ", b"h" * 1000):
            peer.send(P.WORK_DATA, handle, b"x")
            peer.send(P.WORK_COMPLETE, handle, b"wrong")
        peer.send(P.WORK_COMPLETE, b"H:1", b"right")
        peer.send(P.WORK_COMPLETE, b"H:1", b"twice")
        assert await job == b"right"
        await eventually(lambda: client.statistics().servers[client.job_servers[0]].late == 9)


async def test_an_oversize_packet_without_a_job_is_rejected_before_it_is_read() -> None:
    async with fake_client(max_packet_size=1024) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        session = session_of(job)
        assert session is not None
        peer.write(b"\0RES" + P.ECHO_RES.to_bytes(4) + (1025).to_bytes(4))
        with pytest.raises(ConnectionLostError, match="announced 1025 bytes; the limit is 1024"):
            await job
        assert session.protocol.held <= 12


async def test_a_result_over_max_packet_size_ends_its_job_before_it_has_arrived_and_is_not_kept() -> None:
    async with fake_client(max_packet_size=10_000) as (client, server):
        job, other = client.submit("f", retry_count=3), client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await peer.expect_job(b"H:2")
        peer.write(HEADER.pack(RESPONSE, P.WORK_COMPLETE, 600_000) + b"H:1\0" + bytes(100_000))
        with pytest.raises(
            JobTooLargeError, match="sent a WORK_COMPLETE of 599996 bytes; max_packet_size is 10000"
        ) as caught:
            await job
        assert (caught.value.size, caught.value.limit) == (599_996, 10_000)
        assert job.tries == 1
        session = session_of(other)
        assert session is not None
        await eventually(lambda: session.protocol.arrived == 100_016)
        assert session.protocol.held == 0
        peer.write(bytes(499_996))
        peer.send(P.WORK_COMPLETE, b"H:2", b"other")
        assert await other == b"other"
        assert client.statistics().servers[client.job_servers[0]].failed == 1


STEP = 64 * 1024  # bytes of a skipped packet that count as progress


@pytest.mark.parametrize("piece", [STEP, 20], ids=["arriving", "trickling"])
async def test_a_packet_that_is_skipped_keeps_the_connection_only_while_it_is_arriving(piece: int) -> None:
    """The bytes of a false announcement of gigabytes include the replies to probes; these count as no progress."""
    async with fake_client(max_packet_size=STEP, heartbeat=0.4) as (client, server):
        job, other = client.submit("f"), client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await peer.expect_job(b"H:2")
        peer.write(HEADER.pack(RESPONSE, P.WORK_COMPLETE, 64 * STEP) + b"H:1\0" + bytes(10_000))
        with pytest.raises(JobTooLargeError):
            await job
        session = session_of(other)
        assert session is not None
        asked = asyncio.ensure_future(client.ping())  # a reply is pending from here on
        end = heartbeat_count(session) + 3 * CHECKS_PER_INTERVAL
        while heartbeat_count(session) < end and not session.is_closed:
            before = heartbeat_count(session)
            peer.write(bytes(piece))
            await eventually(lambda before=before: heartbeat_count(session) > before or session.is_closed)  # type: ignore[misc]
        assert session.is_closed == (piece < STEP)
        if session.is_closed:
            with pytest.raises(ConnectionLostError, match=r"did not reply within 0\.4 s"):
                await other
        else:
            other.cancel()
        asked.cancel()
        await asyncio.wait([asked])


async def test_a_flood_of_updates_that_nobody_reads_fills_no_memory() -> None:
    async with submitted() as (job, peer, client):
        piece = packet(P.WORK_DATA, b"H:1", b"x" * 64 * 1024, magic=RESPONSE) * 16
        for _ in range(64):
            peer.write(piece)
            await peer.writer.drain()
        peer.send(P.WORK_COMPLETE, b"H:1", b"done")
        assert await job == b"done"
        (statistics,) = client.statistics().servers.values()
        assert statistics.bytes_received > 64 * 1024 * 1024
        session = session_of(job)
        assert session is not None
        assert session.protocol.held == 0


async def test_endless_warnings_for_an_abandoned_job_are_only_counted() -> None:
    async with submitted() as (job, peer, client):
        job.cancel()
        peer.write(packet(P.WORK_WARNING, b"H:1", b"x", magic=RESPONSE) * 10_000)
        await eventually(lambda: client.statistics().servers[client.job_servers[0]].late == 10_000)


async def test_a_server_that_breaks_each_connection_ends_a_job_with_its_tries() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f", retry_count=2)
        for _ in range(3):
            peer = await server.accept()
            await peer.expect_job()
            peer.write(b"garbage")
        with pytest.raises(ConnectionLostError):
            await job
        assert (job.tries, server.connections) == (3, 3)


async def test_garbage_from_a_server_on_connecting_is_reported() -> None:
    """It may arrive before or after the first job was written; either error describes it."""
    async with fake_client() as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        peer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        with pytest.raises((ConnectionLostError, NoServersError), match="a packet must begin with"):
            await job


async def test_a_server_that_closes_the_connection_without_reading_ends_its_jobs_immediately() -> None:
    """The transport would go on writing and report the end only afterwards; without a heartbeat, never."""
    async with fake_server() as server, Client([server.address], heartbeat=None) as client:
        job = client.submit("f", bytes(32 * 1024 * 1024))
        peer = await server.accept()
        peer.writer.write_eof()
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionLostError):
                await job
        peer.close()
