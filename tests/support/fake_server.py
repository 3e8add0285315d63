"""A job server played by the test, which reads the client's packets and chooses every reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from geartrain.protocol.packets import HEADER, REQUEST, RESPONSE, PacketType, split
from tests.support.scripted import ScriptedServer, scripted_server
from tests.support.wire import packet

WITHIN = 10.0  # seconds until a missing packet fails the test

SUBMITS = frozenset(kind for kind in PacketType if kind.name.startswith("SUBMIT_"))


class FakePeer:
    """One connection from a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closed = asyncio.get_running_loop().create_future()

    async def receive(self) -> tuple[PacketType, list[bytes]]:
        """Return type and arguments of the next packet."""
        async with asyncio.timeout(WITHIN):
            magic, kind, size = HEADER.unpack(await self.reader.readexactly(HEADER.size))
            assert magic == REQUEST
            return PacketType(kind), split(PacketType(kind), await self.reader.readexactly(size))

    async def expect(self, kind: PacketType) -> list[bytes]:
        """Return the arguments of the next packet, which must have this type."""
        found, arguments = await self.receive()
        assert found is kind, (found, arguments)
        return arguments

    async def expect_job(self, handle: bytes | None = None) -> list[bytes]:
        """Return the arguments of the next packet, a submission; if a handle is given, accept the job with it."""
        kind, arguments = await self.receive()
        assert kind in SUBMITS, (kind, arguments)
        if handle is not None:
            self.send(PacketType.JOB_CREATED, handle)
        return arguments

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet."""
        self.write(packet(kind, *arguments, magic=RESPONSE))

    def write(self, data: bytes) -> None:
        """Send any bytes; drop them if the connection is closed, where uvloop would raise."""
        if not self.writer.is_closing():
            self.writer.write(data)

    def has_more(self) -> bool:
        """Whether unread bytes have arrived."""
        return bool(self.reader._buffer)  # type: ignore[attr-defined]  # there is no public accessor

    async def at_end(self) -> bool:
        """Wait until the client closes the connection; return whether it sent nothing before."""
        async with asyncio.timeout(WITHIN):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(1) == b""
            return True  # reset

    def close(self) -> None:
        """Close the connection."""
        if not self.closed.done():
            self.closed.set_result(None)


class FakeServer:
    """
    A listening job server.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self) -> None:
        self.peers: asyncio.Queue[FakePeer] = asyncio.Queue()
        self.scripted: ScriptedServer | None = None
        self.address = ""

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        assert self.scripted is not None
        return self.scripted.connections

    async def accept(self) -> FakePeer:
        """Return the next connection."""
        async with asyncio.timeout(WITHIN):
            return await self.peers.get()

    async def script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection to the test, and keep it open until the test closes it."""
        peer = FakePeer(reader, writer)
        self.peers.put_nowait(peer)
        await peer.closed
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """Listen on a free port until the end of the block."""
    server = FakeServer()
    async with scripted_server(server.script) as scripted:
        server.scripted, server.address = scripted, scripted.address
        yield server
