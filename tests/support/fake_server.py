"""A job server of which the test itself plays the part: it reads the client's packets and sends what it likes."""

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
    """One connection that a client has made."""

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
        """Return the arguments of the next packet, which is to be of this type."""
        found, arguments = await self.receive()
        assert found is kind, (found, arguments)
        return arguments

    async def expect_job(self, handle: bytes | None = None) -> list[bytes]:
        """Return the arguments of the next packet, which is to submit a job; accept that if a handle is given."""
        kind, arguments = await self.receive()
        assert kind in SUBMITS, (kind, arguments)
        if handle is not None:
            self.send(PacketType.JOB_CREATED, handle)
        return arguments

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet."""
        self.write(packet(kind, *arguments, magic=RESPONSE))

    def write(self, data: bytes) -> None:
        """Send bytes, right or not; to nobody if the connection is gone, where uvloop would raise."""
        if not self.writer.is_closing():
            self.writer.write(data)

    def has_more(self) -> bool:
        """Whether bytes have arrived that were not read yet."""
        return bool(self.reader._buffer)  # type: ignore[attr-defined]  # there is no public way to look

    async def at_end(self) -> bool:
        """Wait until the client closes the connection; return whether it has sent nothing before."""
        async with asyncio.timeout(WITHIN):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(1) == b""
            return True  # it was cut

    def close(self) -> None:
        """Close the connection."""
        if not self.closed.done():
            self.closed.set_result(None)


class FakeServer:
    """
    Where a client connects to.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self) -> None:
        self.peers: asyncio.Queue[FakePeer] = asyncio.Queue()
        self.scripted: ScriptedServer | None = None
        self.address = ""

    @property
    def connections(self) -> int:
        """How many were accepted."""
        assert self.scripted is not None
        return self.scripted.connections

    async def accept(self) -> FakePeer:
        """Return the next connection."""
        async with asyncio.timeout(WITHIN):
            return await self.peers.get()

    async def script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand a connection to the test, and keep it until the test has closed it."""
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
