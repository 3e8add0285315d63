"""A raw connection to a job server inside the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from tests.support.wire import packet

WITHIN = 10.0  # seconds until a missing answer fails the test
TERMINAL = frozenset({PacketType.WORK_COMPLETE, PacketType.WORK_FAIL, PacketType.WORK_EXCEPTION})


class AsyncWire:
    """Sends packets, and reads the answers one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet."""
        self.writer.write(packet(kind, *arguments))

    async def receive(self) -> tuple[PacketType, bytes]:
        """Return type and body of the next packet."""
        async with asyncio.timeout(WITHIN):
            magic, kind, size = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            assert magic == RESPONSE
            return PacketType(kind), await self._reader.readexactly(size)

    async def submit(
        self, function: str, workload: bytes = b"", *, unique: bytes = b"", kind: PacketType = PacketType.SUBMIT_JOB
    ) -> bytes:
        """Submit a job when nothing else is outstanding, and return its handle."""
        self.send(kind, function.encode(), unique, workload)
        answer, handle = await self.receive()
        assert answer is PacketType.JOB_CREATED, (answer, handle)
        return handle

    async def submit_at(self, function: str, epoch: int, workload: bytes = b"") -> bytes:
        """Submit a job that is due at a time."""
        self.send(PacketType.SUBMIT_JOB_EPOCH, function.encode(), b"", b"%d" % epoch, workload)
        answer, handle = await self.receive()
        assert answer is PacketType.JOB_CREATED, (answer, handle)
        return handle

    async def updates(self) -> list[tuple[str, bytes]]:
        """Return the packets of the only job up to its last one, without the handle."""
        found = []
        while True:
            kind, body = await self.receive()
            found.append((kind.name, body.partition(b"\0")[2]))
            if kind in TERMINAL:
                return found

    async def do(self, function: str, workload: bytes = b"") -> tuple[str, bytes]:
        """Submit a job and return how it ends."""
        await self.submit(function, workload)
        return (await self.updates())[-1]

    async def do_many(self, function: str, workloads: list[bytes]) -> list[bytes]:
        """Submit jobs together, and return their results in the order of completion."""
        for workload in workloads:
            self.send(PacketType.SUBMIT_JOB, function.encode(), b"", workload)
        results: list[bytes] = []
        while len(results) < len(workloads):
            kind, body = await self.receive()
            if kind is not PacketType.JOB_CREATED:
                assert kind is PacketType.WORK_COMPLETE
                results.append(body.partition(b"\0")[2])
        return results


@asynccontextmanager
async def connected(address: str, *, exceptions: bool = True) -> AsyncIterator[AsyncWire]:
    """Connect to a job server until the end of the block."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    wire = AsyncWire(reader, writer)
    try:
        if exceptions:
            wire.send(PacketType.OPTION_REQ, b"exceptions")
            assert await wire.receive() == (PacketType.OPTION_RES, b"exceptions")
        yield wire
    finally:
        writer.close()
        await writer.wait_closed()
