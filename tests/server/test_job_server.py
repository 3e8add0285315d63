"""JobServer in the test's own event loop: its addresses, starting and closing, and faulty peers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from typing import Any

import pytest

from geartrain import JobServer
from geartrain.address import Address
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.eventually import eventually
from tests.support.wire import packet

P = PacketType


class Stream:
    """A connection to a job server, from asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = Decoder(RESPONSE)
        self.waiting: list[tuple[int, bytes]] = []

    @classmethod
    async def open(cls, server: JobServer) -> Stream:
        address = Address.parse(server.address)
        return cls(*await asyncio.open_connection(address.host, address.port))

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def receive(self) -> tuple[int, bytes]:
        while not self.waiting:
            data = await self.reader.read(65536)
            assert data, "the connection was closed"
            self.waiting += [(kind, body) for kind, bodies in self.decoder.feed(data) for body in bodies]
        return self.waiting.pop(0)

    async def ask(self, line: bytes) -> bytes:
        self.send(line + b"\r\n")
        return await self.reader.readline()

    async def at_end(self) -> bool:
        return await self.reader.read(1) == b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return  # the server disconnected first


async def test_a_full_default_executor_does_not_delay_a_job_server() -> None:
    loop = asyncio.get_running_loop()
    go_on = threading.Event()
    busy = [loop.run_in_executor(None, go_on.wait) for _ in range(64)]
    try:
        async with asyncio.timeout(10), JobServer("localhost", 0):
            pass
    finally:
        go_on.set()
        await asyncio.gather(*busy)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_the_server_can_be_reached_at_its_address(host: str) -> None:
    async with JobServer(host, 0) as server:
        stream = await Stream.open(server)
        assert (await stream.ask(b"version")).startswith(b"OK geartrain-")
        await stream.close()
    assert Address.parse(server.address).host == host


@pytest.mark.parametrize(
    ("host", "reachable"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("0:0::0", "::1")],
)
async def test_a_server_on_all_addresses_accepts_loopback_connections(host: str, reachable: str) -> None:
    async with JobServer(host, 0) as server:
        assert Address.parse(server.address).host == reachable
        stream = await Stream.open(server)
        assert (await stream.ask(b"version")).startswith(b"OK geartrain-")
        await stream.close()


async def test_one_free_port_is_used_for_all_addresses() -> None:
    async with JobServer("", 0) as server:
        port = Address.parse(server.address).port
        for host in ("127.0.0.1", "::1"):
            stream = Stream(*await asyncio.open_connection(host, port))
            assert (await stream.ask(b"version")).startswith(b"OK geartrain-")
            await stream.close()
        assert {sock.getsockname()[1] for sock in server._server.sockets} == {port}  # type: ignore[union-attr]


@pytest.mark.parametrize("taken", [1, 3, 1000])
async def test_a_port_that_is_free_on_one_address_only_is_not_used(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """If no port is free on all of them, starting fails eventually."""
    loop = asyncio.get_running_loop()
    create_server = loop.create_server
    refused: list[int] = []

    async def refusing(factory: Any, host: str, port: int, **options: Any) -> Any:
        if port and len(refused) < taken:
            refused.append(port)
            raise OSError(errno.EADDRINUSE, "address already in use")
        return await create_server(factory, host, port, **options)

    monkeypatch.setattr(loop, "create_server", refusing, raising=False)
    server = JobServer("", 0)
    if taken == 1000:
        with pytest.raises(OSError, match="in use"):
            await server.start()
        return
    async with server:
        assert len(refused) == taken
        stream = await Stream.open(server)
        await stream.ask(b"version")
        await stream.close()


async def test_start_can_be_retried_after_the_port_was_in_use() -> None:
    async with JobServer(port=0) as first:
        second = JobServer(port=Address.parse(first.address).port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
    async with second:
        assert second.address == first.address


async def test_it_can_be_started_once_and_closed_repeatedly() -> None:
    server = JobServer(port=0)
    await server.aclose()
    await server.start()
    with pytest.raises(RuntimeError, match="is already running"):
        await server.start()
    await server.aclose()
    await server.aclose()


async def test_after_a_restart_the_queue_is_empty_and_the_address_the_same() -> None:
    server = JobServer(port=0, handle_prefix="H:me")
    async with server:
        address = server.address
        stream = await Stream.open(server)
        stream.send(packet(P.SUBMIT_JOB_BG, b"f", b"", b""))
        assert await stream.receive() == (P.JOB_CREATED, b"H:me:1")
    assert await stream.at_end()
    await stream.close()
    async with server:
        assert server.address == address
        stream = await Stream.open(server)
        assert await stream.ask(b"status") == b".\n"
        stream.send(packet(P.SUBMIT_JOB_BG, b"f", b"", b""))
        assert await stream.receive() == (P.JOB_CREATED, b"H:me:1")
        await stream.close()


async def test_closing_does_not_wait_for_a_peer_that_does_not_read() -> None:
    async with JobServer(port=0) as server:
        stalled = await Stream.open(server)
        other = await Stream.open(server)
        stalled.send(*[packet(P.ECHO_REQ, bytes(1_000_000))] * 30)
        assert await other.ask(b"status") == b".\n"
    assert await other.at_end()
    await other.close()
    stalled.writer.transport.abort()
    await stalled.close()


async def test_a_delayed_job_wakes_a_sleeping_worker_when_it_is_due() -> None:
    """The wall clock is a second before the due time when the server starts."""
    async with JobServer(port=0, clock=lambda: 1_999_999_999.9) as server:
        stream = await Stream.open(server)
        stream.send(packet(P.CAN_DO, b"f"), packet(P.SUBMIT_JOB_EPOCH, b"f", b"", b"2000000000", b"workload"))
        assert (await stream.receive())[0] == P.JOB_CREATED
        stream.send(packet(P.PRE_SLEEP))
        assert await stream.receive() == (P.NOOP, b"")
        stream.send(packet(P.GRAB_JOB))
        kind, body = await stream.receive()
        assert (kind, body.split(b"\0")[1:]) == (P.JOB_ASSIGN, [b"f", b"workload"])
        await stream.close()


async def test_jobs_in_the_far_future_and_long_timeouts_leave_no_timers() -> None:
    async with JobServer(port=0) as server:
        stream = await Stream.open(server)
        stream.send(packet(P.SUBMIT_JOB_EPOCH, b"f", b"", b"9" * 18, b""), packet(P.CAN_DO_TIMEOUT, b"f", b"99999999"))
        stream.send(packet(P.SUBMIT_JOB, b"f", b"", b""), packet(P.GRAB_JOB))
        assert [(await stream.receive())[0] for _ in range(3)] == [P.JOB_CREATED, P.JOB_CREATED, P.JOB_ASSIGN]
        await stream.close()


async def test_only_the_peer_that_breaks_the_protocol_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0) as server:
        bad, good = await Stream.open(server), await Stream.open(server)
        bad.send(packet(P.ECHO_REQ, b"before"), packet(0x80000000))
        assert await bad.receive() == (P.ECHO_RES, b"before")
        assert await bad.at_end()
        assert "unknown packet type 2147483648" in caplog.text
        assert await good.ask(b"status") == b".\n"
        await bad.close()
        await good.close()


async def test_an_oversized_packet_is_rejected_from_its_header() -> None:
    async with JobServer(port=0, max_packet_size=1000) as server:
        stream = await Stream.open(server)
        stream.send(packet(P.ECHO_REQ, bytes(1001))[:20])
        assert await stream.at_end()
        await stream.close()


async def test_jobs_of_a_disconnected_peer_are_requeued_immediately() -> None:
    async with JobServer(port=0) as server:
        bad, good = await Stream.open(server), await Stream.open(server)
        bad.send(packet(P.CAN_DO, b"f"), packet(P.SUBMIT_JOB_BG, b"f", b"", b""), packet(P.GRAB_JOB), packet(0))
        assert (await bad.receive())[0] == P.JOB_CREATED
        assert (await bad.receive())[0] == P.JOB_ASSIGN
        assert await bad.at_end()
        assert await good.ask(b"status") == b"f\t1\t0\t0\n"
        await bad.close()
        await good.close()


async def test_reading_pauses_for_a_peer_that_does_not_read_its_responses() -> None:
    """It receives all responses once it reads again."""
    async with JobServer(port=0) as server:
        stalled, good = await Stream.open(server), await Stream.open(server)
        stalled.writer.transport.set_write_buffer_limits(100_000)
        requests = 200
        writing = asyncio.create_task(write_all(stalled, [packet(P.ECHO_REQ, bytes(500_000))] * requests))
        await eventually(lambda: stalled.writer.transport.get_write_buffer_size() > 100_000)
        assert await good.ask(b"status") == b".\n"
        for _ in range(requests):
            assert await stalled.receive() == (P.ECHO_RES, bytes(500_000))
        await writing
        await stalled.close()
        await good.close()


async def write_all(stream: Stream, pieces: list[bytes]) -> None:
    for piece in pieces:
        stream.send(piece)
        await stream.writer.drain()


async def test_a_client_that_never_reads_its_results_is_disconnected_at_the_limit() -> None:
    async with JobServer(port=0, max_backlog=5_000_000) as server:
        stalled, worker = await Stream.open(server), await Stream.open(server)
        stalled.send(packet(P.SUBMIT_JOB, b"f", b"", b""))
        kind, handle = await stalled.receive()
        assert kind == P.JOB_CREATED
        stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]
        worker.send(packet(P.CAN_DO, b"f"), packet(P.GRAB_JOB))
        assert (await worker.receive())[0] == P.JOB_ASSIGN
        await write_all(worker, [packet(P.WORK_DATA, handle, bytes(1_000_000))] * 60)
        # The job continues, but no client is waiting for it.
        assert await worker.ask(b"show jobs") == handle + b"\t0\t1\t0\n"
        stalled.writer.transport.abort()
        await stalled.close()
        await worker.close()


def request_and_half_close(port: int) -> int:
    """Send many requests, shut down the sending side, and return the size of the responses."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"version\n" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        size = 0
        while data := sock.recv(1 << 20):
            size += len(data)
        return size


async def test_a_peer_that_half_closes_its_connection_receives_all_responses() -> None:
    async with JobServer(port=0) as server:
        stream = await Stream.open(server)
        size = 100_000 * len(await stream.ask(b"version"))
        await stream.close()
        assert await asyncio.to_thread(request_and_half_close, Address.parse(server.address).port) == size


async def test_each_packet_is_logged_with_its_workload_elided(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "geartrain.server")
    async with JobServer(port=0, handle_prefix="H:me") as server:
        stream = await Stream.open(server)
        stream.send(packet(P.SUBMIT_JOB, b"reverse", b"", b"secret"), packet(P.CAN_DO, b"reverse"), packet(P.GRAB_JOB))
        assert (await stream.receive())[0] == P.JOB_CREATED
        assert (await stream.receive())[0] == P.JOB_ASSIGN
        await stream.ask(b"version")
        await stream.close()
    for line in (
        "< SUBMIT_JOB reverse  [6 bytes]",
        "> JOB_CREATED H:me:1",
        "> JOB_ASSIGN H:me:1 reverse [6 bytes]",
        r"< 'version\r'",
    ):
        assert any(message.endswith(line) for message in caplog.messages), line
    assert "secret" not in caplog.text


async def test_packets_are_not_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0) as server:
        stream = await Stream.open(server)
        await stream.ask(b"version")
        await stream.close()
    assert not [record for record in caplog.records if record.levelno < logging.INFO]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": None}, TypeError, "host must be a name or an address, got None"),
        ({"port": -1}, ValueError, "port must be from 0 to 65535, got -1"),
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, got 65536"),
        ({"port": "4730"}, TypeError, "port must be a whole number, got '4730'"),
        ({"tls": True}, TypeError, "tls must be an ssl.SSLContext or None, got True"),
        ({"job_retries": -1}, ValueError, "job_retries must be at least 0, got -1"),
        ({"job_retries": None}, TypeError, "job_retries must be a whole number, got None"),
        ({"exceptions": 1}, TypeError, "exceptions must be True or False, got 1"),
        ({"round_robin": "yes"}, TypeError, "round_robin must be True or False, got 'yes'"),
        ({"handle_prefix": "a\0b"}, ValueError, r"handle_prefix must not contain a NUL, got 'a\\x00b'"),
        ({"handle_prefix": 7}, TypeError, "handle_prefix must be str or bytes, got 7"),
        ({"max_packet_size": 0}, ValueError, "max_packet_size must be from 1 to 4294959104, got 0"),
        ({"max_queue_size": 1.5}, TypeError, "max_queue_size must be a whole number, got 1.5"),
        ({"max_connections": 0}, ValueError, "max_connections must be at least 1, got 0"),
        ({"max_buffer_size": None}, TypeError, "max_buffer_size must be a whole number, got None"),
        ({"max_backlog": -1}, ValueError, "max_backlog must be at least 1, got -1"),
        ({"clock": 5.0}, TypeError, "clock must be a function that returns the Unix time, got 5.0"),
        ({"logger": "geartrain"}, TypeError, "logger must be a logging.Logger, got 'geartrain'"),
    ],
)
def test_an_invalid_argument_is_named_with_its_value(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        JobServer(**options)


async def test_many_connections_with_a_partial_packet_each_can_be_closed() -> None:
    async with JobServer(port=0) as server:
        streams = [await Stream.open(server) for _ in range(200)]
        for stream in streams:
            stream.send(packet(P.ECHO_REQ, b"x"), b"\0RE")
        for stream in streams:
            assert await stream.receive() == (P.ECHO_RES, b"x")
    for stream in streams:
        await stream.close()


async def test_a_connection_accepted_just_before_closing_is_closed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the peer would stay connected to a server that no other peer can reach."""
    loop = asyncio.get_running_loop()
    create_server = loop.create_server
    factories: list[Any] = []

    async def recording(factory: Any, *rest: Any, **options: Any) -> Any:
        factories.append(factory)
        return await create_server(factory, *rest, **options)

    monkeypatch.setattr(loop, "create_server", recording, raising=False)
    async with JobServer(port=0):
        pass
    # asyncio calls the protocol factory a few event loop iterations after it accepts a connection.
    late = await create_server(factories[0], "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*late.sockets[0].getsockname())
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    late.close()
