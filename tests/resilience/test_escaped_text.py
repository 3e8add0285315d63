"""Log lines, errors and reprs are printable and short, whatever a peer sends in any type of packet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from geartrain import Admin, Client, GearmanError, JobServer, Worker, WorkerJob
from geartrain.address import Address
from geartrain.protocol.packets import HEADER, PACKETS, REQUEST, RESPONSE, PacketType
from tests.support.fake_server import FakePeer, fake_server
from tests.support.wire import packet

P = PacketType
MUCH = 300_000  # bytes; longer than any valid name or text
LONGEST = 2500  # characters of a line with all arguments of a packet, each of them shortened

ESCAPES = b"\x1b]0;title\x07\x1b[31m\r\n\x08\x7f\xc2\x9b\xe2\x80\xae\xff"  # CSI, bidirectional override, invalid byte
HOSTILE: dict[str, Callable[[], bytes]] = {
    "escapes": lambda: ESCAPES,
    "much": lambda: ESCAPES * (MUCH // len(ESCAPES)),
}
FROM_SERVER = [kind for kind, spec in PACKETS.items() if spec.from_server and spec.arguments]
TO_SERVER = [kind for kind, spec in PACKETS.items() if spec.to_server and spec.arguments]
VALID = {
    "handle": b"H:1",
    "function": b"f",
    "unique": b"",
    "numerator": b"1",
    "denominator": b"2",
    "known": b"1",
    "running": b"1",
    "waiting_clients": b"1",
    "timeout_ms": b"5000",
    "epoch": b"0",
    "option": b"exceptions",
}


def variants(kind: PacketType, magic: int, hostile: bytes) -> Iterator[bytes]:
    """Packets with hostile bytes in each argument, in all arguments, and instead of the arguments."""
    names = PACKETS[kind].arguments
    for hostile_name in (*names, None):
        yield packet(
            kind,
            *(hostile if name == hostile_name or hostile_name is None else VALID.get(name, b"x") for name in names),
            magic=magic,
        )
    yield packet(kind, hostile, magic=magic)


def check(text: str, *, lines: bool = False) -> None:
    for line in text.split("\n") if lines else [text]:
        assert line.replace("\t", " ").isprintable(), text[:500]
        assert len(line) <= LONGEST, (len(line), text[:500])


class Checked(logging.Handler):
    """Checks each message of geartrain as an ordinary formatter prints it."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[AssertionError] = []
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        try:
            check(record.getMessage())
            check(logging.Formatter().format(record), lines=True)
        except AssertionError as failure:
            self.failures.append(failure)


@pytest.fixture
def logged() -> Iterator[Checked]:
    handler, logger = Checked(), logging.getLogger("geartrain")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
        assert handler.count
        if handler.failures:
            raise handler.failures[0]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def check_error(error: BaseException | None) -> None:
    """Check that an error, its attributes and its causes can be printed."""
    while error is not None:
        check(str(error))
        error = error.__cause__ or error.__context__


async def end(*waiting: asyncio.Future[Any]) -> None:
    """Wait until all have finished, and check the errors."""
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(outcome, BaseException):
            check_error(outcome)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", FROM_SERVER)
async def test_a_client_escapes_and_shortens_text_from_a_job_server(
    kind: PacketType, hostile: str, logged: Checked
) -> None:
    for data in variants(kind, RESPONSE, HOSTILE[hostile]()):
        async with fake_server() as server, Client(server.address, exceptions=False) as client:
            job = client.submit("f", on_fail=lambda error: None)
            peer = await server.accept()
            await peer.expect_job(b"H:1" if kind is not P.JOB_CREATED else None)
            if kind is not P.JOB_CREATED:
                await job.created()
            query = asyncio.ensure_future(client.get_status(f"{server.address}//H:1"))
            ping = asyncio.ensure_future(client.ping())
            await peer.expect(P.GET_STATUS)
            peer.write(data)
            check(repr(job))
            peer.close()
            await end(job, query, ping)
            check(repr(job))


def fails(job: WorkerJob) -> None:
    raise ValueError(job.workload.decode("utf-8", "surrogateescape") + job.unique)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", FROM_SERVER)
async def test_a_worker_escapes_and_shortens_text_from_a_job_server(
    kind: PacketType, hostile: str, logged: Checked
) -> None:
    for data in variants(kind, RESPONSE, HOSTILE[hostile]()):
        async with fake_server() as server:
            worker = Worker(server.address, max_packet_size=MUCH // 2)
            worker.function("f")(fails)
            running = asyncio.create_task(worker.run())
            peer = await server.accept()
            await peer.expect(P.SET_CLIENT_ID)
            await peer.expect(P.CAN_DO)
            await peer.expect(P.GRAB_JOB_UNIQ)
            peer.write(data)
            if kind in (P.JOB_ASSIGN, P.JOB_ASSIGN_UNIQ):
                await wait_for_answer_or_close(peer)
            peer.close()
            await server.accept()  # it has noticed that the first connection was closed
            running.cancel()
            await asyncio.wait([running])


async def wait_for_answer_or_close(peer: FakePeer) -> None:
    try:
        header = await peer.reader.readexactly(HEADER.size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    await peer.reader.readexactly(HEADER.unpack(header)[2])


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", TO_SERVER)
async def test_a_job_server_escapes_and_shortens_packets(kind: PacketType, hostile: str, logged: Checked) -> None:
    async with JobServer(port=0, handle_prefix="H:", max_packet_size=MUCH // 2) as server:
        for data in variants(kind, REQUEST, HOSTILE[hostile]()):
            await send(server, packet(P.SUBMIT_JOB, b"f", b"", b"w"), packet(P.CAN_DO, b"f"), packet(P.GRAB_JOB), data)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "line", [b"%b", b"status %b", b"show %b", b"create function %b", b"drop function %b", b"cancel job %b"]
)
async def test_a_job_server_escapes_and_shortens_commands(line: bytes, hostile: str, logged: Checked) -> None:
    text = HOSTILE[hostile]().replace(b"\r", b"").replace(b"\n", b"")
    async with JobServer(port=0) as server:
        await send(server, line % text + b"\r\n", b"status\r\n")


async def send(server: JobServer, *pieces: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", Address.parse(server.address).port)
    try:
        writer.write(b"".join(pieces))
        writer.write_eof()
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


Ask = Callable[[Admin], Coroutine[Any, Any, object]]
QUESTIONS: dict[str, Ask] = {
    "status": lambda admin: admin.status(),
    "workers": lambda admin: admin.workers(),
    "show_jobs": lambda admin: admin.show_jobs(),
    "version": lambda admin: admin.version(),
    "create_function": lambda admin: admin.create_function("f\x1b[31m"),
}
ANSWERS = (
    b"%b\r\n",
    b"ERR %b\r\n",
    b"ERR UNKNOWN_%b\r\n",
    b"OK %b\r\n",
    b"%b\t1\t1\t1\n.\n",
    b"1 %b x : f\n.\n",
    b"\0%b",
)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_admin_client_escapes_and_shortens_replies(question: str, hostile: str, logged: Checked) -> None:
    for answer in ANSWERS:
        async with fake_server() as server, Admin(server.address, timeout=5) as admin:
            query = asyncio.ensure_future(QUESTIONS[question](admin))
            peer = await server.accept()
            await peer.reader.readline()
            peer.write(answer % HOSTILE[hostile]().replace(b"\r\n", b""))
            peer.close()
            try:
                await query
            except GearmanError as error:
                check_error(error)
            except TimeoutError as error:
                check_error(error)
