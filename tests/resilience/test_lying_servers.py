"""
Job servers that send false packets to a client, a worker or an admin client, which must report what was wrong.

Meanwhile the same client or worker uses another, correct job server without disturbance, and the memory that the false
packets take is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from geartrain import (
    Admin,
    AdminGroup,
    Client,
    ConnectionLostError,
    JobServer,
    RemoteProtocolError,
    ServerTimeoutError,
    Worker,
    WorkerJob,
)
from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import FakePeer, FakeServer, fake_server
from tests.support.inside import held_updates, is_pausing
from tests.support.wire import packet
from tests.support.working import working

P = PacketType
MIB = 1024 * 1024
FLOOD = 4 * MIB  # bytes


def response(kind: int, *arguments: bytes) -> bytes:
    return packet(kind, *arguments, magic=RESPONSE)


def announced(kind: int, size: int) -> bytes:
    return HEADER.pack(RESPONSE, kind, size)


# To any peer.
TO_ANY_PEER: dict[str, tuple[bytes, str]] = {
    "4 GiB": (announced(P.ECHO_RES, 0xFFFFFFFF), "announced 4294967295 bytes; the limit is 67108864"),
    "1 GiB of an unknown type": (announced(4711, 1 << 30), "a packet of type 4711 announced 1073741824 bytes"),
    "65 MiB of NOOP": (announced(P.NOOP, 65 * MIB), "announced 68157440 bytes"),
    "text": (b"ERR UNKNOWN_COMMAND\r\n", r"a packet must begin with \0REQ or \0RES, got b'ERR '"),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "got b'HTTP'"),
    "TLS": (b"\x15\x03\x01\0\x02\x02P", r"got b'\x15\x03\x01\x00'"),
    "zeros": (bytes(100), r"got b'\x00\x00\x00\x00'"),
    "a request": (packet(P.SUBMIT_JOB, b"f", b"", b"w"), r"\0REQ|magic of a request"),
}
TO_A_CLIENT: dict[str, tuple[bytes, str]] = {
    "JOB_CREATED": (response(P.JOB_CREATED, b"H:9"), "sent an unexpected JOB_CREATED"),
    "STATUS_RES": (response(P.STATUS_RES, b"H:9", b"0", b"0", b"0", b"0"), "sent an unexpected STATUS_RES"),
    "STATUS_RES_UNIQUE": (response(P.STATUS_RES_UNIQUE, *[b"0"] * 6), "sent an unexpected STATUS_RES_UNIQUE"),
    "ECHO_RES": (response(P.ECHO_RES, b"x"), "sent an unexpected ECHO_RES"),
    "ERROR": (response(P.ERROR, b"QUEUE_ERROR", b"full"), "sent an unexpected ERROR QUEUE_ERROR 'full'"),
    **{
        f"{kind.name} without its data": (response(kind, b"H:1"), f"{kind.name} needs 2 arguments")
        for kind in (P.WORK_COMPLETE, P.WORK_EXCEPTION, P.WORK_DATA, P.WORK_WARNING, P.ERROR)
    },
    "WORK_STATUS without its numbers": (response(P.WORK_STATUS, b"H:1"), "WORK_STATUS needs 3 arguments"),
}
TO_A_WORKER: dict[str, tuple[bytes, str]] = {
    "a job too many": (
        response(P.JOB_ASSIGN, b"H:1", b"f", b"") * 300,
        "unexpected JOB_ASSIGN: no GRAB_JOB is pending",
    ),
    "a job of no such function": (
        response(P.JOB_ASSIGN, b"H:1", b"g", b""),
        "assigned for 'g', which was not registered",
    ),
    "a job without its workload": (response(P.JOB_ASSIGN_UNIQ, b"H:1", b"f"), "JOB_ASSIGN_UNIQ needs 4 arguments"),
    "NO_JOB twice": (response(P.NO_JOB) * 2, "NO_JOB"),
    "ECHO_RES": (response(P.ECHO_RES, b"x"), "unexpected ECHO_RES: no ECHO_REQ is pending"),
    "STATUS_RES": (
        response(P.STATUS_RES, b"H:1", b"1", b"0", b"0", b"0"),
        "unexpected STATUS_RES: no GET_STATUS is pending",
    ),
    "ERROR without its text": (response(P.ERROR, b"X"), "ERROR needs 2 arguments"),
    **{
        kind.name: (response(kind, b"H:1", b"x"), f"sent {kind.name} to a worker")
        for kind in (P.JOB_CREATED, P.WORK_COMPLETE, P.WORK_DATA, P.STATUS_RES_UNIQUE, P.OPTION_RES, P.SUBMIT_JOB)
    },
}
TO_AN_ADMIN: dict[str, tuple[bytes, str]] = {
    "a packet": (response(P.ERROR, b"X", b"y"), "a line of text must not contain a NUL"),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "expected OK or ERR, got b'HTTP/1.1 400"),
    "a list": (b"f\t1\t2\t3\n.\n", "expected OK or ERR"),
    "an answer too many": (b"OK 1\nOK 2\n", "no command is pending, got b'OK 2'"),
    "a line without an end": (b"OK " + b"9" * 2 * MIB, "an answer is longer than 1048576 bytes"),
    "a number without an end": (b"OK " + b"9" * 1000 + b"\n", "expected OK or ERR"),
}


SILENT_AFTER = {
    "half a header": response(P.WORK_COMPLETE, b"H:1", b"x")[:7],
    "half a body": response(P.WORK_COMPLETE, b"H:1", bytes(1000))[:500],
}


def contains(text: str, expected: str) -> bool:
    """Whether a message contains a text, or one of several separated by ``|``."""
    return any(alternative in text for alternative in expected.split("|"))


class Peak:
    """The peak number of allocated bytes in a block."""

    size = 0


@contextlib.contextmanager
def measured() -> Iterator[Peak]:
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
        peak.size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def flood(peer: FakePeer, data: bytes, size: int) -> None:
    """Send the same data repeatedly, in chunks of 64 KiB, up to a total size or until the peer disconnects."""
    piece = data * max(1, 64 * 1024 // len(data))
    with contextlib.suppress(ConnectionError):
        for _ in range(size // len(piece)):
            peer.write(piece)
            await peer.writer.drain()


# A client.


@pytest.mark.parametrize("name", [*TO_ANY_PEER, *TO_A_CLIENT])
async def test_a_client_reports_the_violation_and_its_other_jobs_continue(name: str) -> None:
    data, expected = (TO_ANY_PEER | TO_A_CLIENT)[name]
    async with (
        fake_server() as faulty,
        fake_server() as correct,
        Client([faulty.address, correct.address], exceptions=False, balance="round-robin") as client,
    ):
        jobs = client.submit("f"), client.submit("f")
        faulty_peer, peer = await faulty.accept(), await correct.accept()
        for job, each in zip(jobs, (faulty_peer, peer), strict=True):
            await each.expect_job(b"H:1")
            await job.created()
        faulty_peer.write(data)
        with pytest.raises(ConnectionLostError) as caught:
            await jobs[0]
        assert type(caught.value.__cause__) is RemoteProtocolError
        assert contains(str(caught.value), expected), caught.value
        assert await faulty_peer.at_end()
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert await jobs[1] == b"result"


@pytest.mark.parametrize("name", SILENT_AFTER)
async def test_a_client_drops_a_server_that_stops_in_the_middle_of_a_packet(name: str) -> None:
    async with fake_client(heartbeat=0.1) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.write(SILENT_AFTER[name])
        with pytest.raises(ConnectionLostError, match=r"did not reply within 0.1 s") as caught:
            await job
        assert caught.value.outcome == "accepted"


FLOODS_TO_A_CLIENT: dict[str, bytes] = {
    "endless data": response(P.WORK_DATA, b"H:1", bytes(200)),
    "endless warnings": response(P.WORK_WARNING, b"H:1", bytes(200)),
    "endless progress": response(P.WORK_STATUS, b"H:1", b"1" * 100, b"2" * 100),
    "results for others": response(P.WORK_COMPLETE, b"H:2", bytes(200)),
    "failures of jobs that never existed": response(P.WORK_FAIL, b"H:" + b"3" * 200),
    "packets of a newer server": response(4711, bytes(200)),
    "packets for workers": response(P.NOOP, bytes(200)) + response(P.JOB_ASSIGN, b"H:1", b"f", bytes(200)),
}


@pytest.mark.parametrize("name", FLOODS_TO_A_CLIENT)
@pytest.mark.parametrize("ended", [False, True], ids=["for a job", "for one that was cancelled"])
async def test_a_flood_leaves_nothing_in_a_client(name: str, ended: bool) -> None:
    async with submitted() as (job, peer, client):
        if ended:
            job.cancel()
        with measured() as peak:
            await flood(peer, FLOODS_TO_A_CLIENT[name], FLOOD)
            peer.send(P.WORK_COMPLETE, b"H:1", b"the end")
            server = client.job_servers[0]
            await eventually(lambda: client.statistics().servers[server].bytes_received > FLOOD * 9 // 10)
        assert peak.size < FLOOD // 2
        assert ended or await job == b"the end"


async def test_unread_data_is_buffered_up_to_the_documented_limit() -> None:
    async with submitted() as (job, peer, _client):
        updates = aiter(job)
        with measured() as peak:
            sending = asyncio.ensure_future(flood(peer, response(P.WORK_DATA, b"H:1", bytes(MIB)), 200 * MIB))
            await eventually(lambda: is_pausing(updates))
            before = held_updates(updates)
            await asyncio.sleep(0)
        assert peak.size < 48 * MIB
        assert held_updates(updates) == before
        job.cancel()
        peer.writer.transport.abort()
        await sending


async def test_many_jobs_may_share_one_handle() -> None:
    """Packets with a shared handle go to each of the jobs in turn, and never twice to the same one."""
    async with fake_client() as (client, server):
        jobs = [client.submit("f", unique="u") for _ in range(100)]
        peer = await server.accept()
        for _ in jobs:
            await peer.expect_job(b"H:same")
        peer.write(response(P.WORK_COMPLETE, b"H:same", b"x") * 150)
        assert await asyncio.gather(*jobs) == [b"x"] * 100
        await eventually(lambda: client.statistics().servers[server.address].late == 50)


# A worker.


@asynccontextmanager
async def worker_between(caplog: pytest.LogCaptureFixture, **options: float) -> AsyncIterator[FakeServer]:
    """Run a worker of a faulty job server, which is yielded, and of a correct one, which it must serve afterwards."""
    caplog.set_level("INFO", "geartrain.worker")
    async with fake_server() as faulty, JobServer(port=0) as correct:
        worker = Worker([faulty.address, correct.address], concurrency=2, regrab_interval=0.05, **options)  # type: ignore[arg-type]

        @worker.function("f")
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        async with working(worker), connected(correct.address) as client:
            assert await client.do("f", b"ab") == ("WORK_COMPLETE", b"ba")
            yield faulty
            assert await client.do("f", b"cd") == ("WORK_COMPLETE", b"dc")


async def wait_for_grab(peer: FakePeer) -> None:
    await peer.expect(P.SET_CLIENT_ID)
    await peer.expect(P.CAN_DO)
    await peer.expect(P.GRAB_JOB_UNIQ)


@pytest.mark.parametrize("name", [*TO_ANY_PEER, *TO_A_WORKER])
async def test_a_worker_reports_the_violation_and_works_for_other_servers(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, expected = (TO_ANY_PEER | TO_A_WORKER)[name]
    async with worker_between(caplog) as faulty:
        peer = await faulty.accept()
        await wait_for_grab(peer)
        peer.write(data)
        await peer.at_end()
        await eventually(lambda: f"lost the connection to {faulty.address}" in caplog.text)
        lost = [
            message for message in caplog.messages if message.startswith(f"lost the connection to {faulty.address}")
        ]
        assert contains(lost[0], expected), lost
        peer.close()
        again = await faulty.accept()  # the worker reconnects: it may work correctly now
        await wait_for_grab(again)
        again.send(P.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"", b"xy")
        while (received := await again.receive())[0] is not P.WORK_COMPLETE:
            pass
        assert received[1] == [b"H:1", b"yx"]
        again.close()  # otherwise the worker would wait for a confirmation of the result


@pytest.mark.parametrize("name", SILENT_AFTER)
async def test_a_worker_drops_a_server_that_stops_in_the_middle_of_a_packet(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker_between(caplog, heartbeat=0.1) as faulty:
        peer = await faulty.accept()
        await wait_for_grab(peer)
        peer.write(SILENT_AFTER[name])
        await faulty.accept()
        assert f"{faulty.address} did not reply within 0.1 s" in caplog.text


FLOODS_TO_A_WORKER: dict[str, bytes] = {
    "endless NOOP": response(P.NOOP, bytes(200)),
    "endless errors": response(P.ERROR, b"JOB_NOT_FOUND", bytes(200)),
    "packets of a newer server": response(4711, bytes(200)),
}


@pytest.mark.parametrize("name", FLOODS_TO_A_WORKER)
async def test_a_flood_leaves_nothing_in_a_worker(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with worker_between(caplog) as faulty:
        peer = await faulty.accept()
        await wait_for_grab(peer)
        peer.send(P.NO_JOB)
        caplog.set_level("ERROR", "geartrain.worker")  # caplog would keep all records
        with measured() as peak:
            await flood(peer, FLOODS_TO_A_WORKER[name], FLOOD)
        assert peak.size < FLOOD // 2


# An admin client.


@pytest.mark.parametrize("name", TO_AN_ADMIN)
async def test_an_admin_client_reports_the_violation_and_the_other_servers_reply(name: str) -> None:
    data, expected = TO_AN_ADMIN[name]
    async with (
        fake_server() as faulty,
        JobServer(port=0) as correct,
        Admin(faulty.address, max_answer_size=MIB) as admin,
        AdminGroup([faulty.address, correct.address]) as group,
    ):
        asking = asyncio.ensure_future(admin.getpid())
        peer = await faulty.accept()
        assert await peer.reader.readline() == b"getpid\r\n"
        peer.write(data)
        if name == "an answer too many":
            assert await asking == 1
        else:
            with pytest.raises(RemoteProtocolError, match=f"^{faulty.address} violated the text protocol: ") as caught:
                await asking
            assert expected in str(caught.value)
        assert await peer.at_end()
        both = asyncio.ensure_future(group.version())
        peer = await faulty.accept()
        await peer.reader.readline()
        peer.write(b"\0")
        answers = await both
        assert type(answers[faulty.address]) is RemoteProtocolError
        assert str(answers[correct.address]).startswith("geartrain-")


@pytest.mark.parametrize("begun", [b"", b"OK 47", b"OK 47\r"])
async def test_an_admin_client_drops_a_server_that_stops_in_the_middle_of_a_line(begun: bytes) -> None:
    async with fake_server() as server, Admin(server.address, timeout=0.1) as admin:
        asking = asyncio.ensure_future(admin.getpid())
        peer = await server.accept()
        await peer.reader.readline()
        peer.write(begun)
        with pytest.raises(ServerTimeoutError):
            await asking


@pytest.mark.parametrize("line", [b"f\t1\t2\t3\n", b"\n", b"x", b"x\n"])
async def test_an_endless_reply_takes_at_most_a_few_times_the_limit_of_memory(line: bytes) -> None:
    async with fake_server() as server, Admin(server.address, max_answer_size=MIB) as admin:
        with measured() as peak:
            asking = asyncio.ensure_future(admin.status())
            peer = await server.accept()
            await peer.reader.readline()
            sending = asyncio.ensure_future(flood(peer, line, 3 * MIB))
            with pytest.raises(RemoteProtocolError, match="an answer is longer than 1048576 bytes"):
                await asking
            await sending
        assert peak.size < 8 * MIB
