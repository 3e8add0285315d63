"""A worker that the test controls packet by packet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from geartrain.protocol.packets import HEADER, PacketType
from tests.support.wire import packet

WITHIN = 10.0  # seconds until a missing packet fails the test


class Assignment(NamedTuple):
    """The job of a JOB_ASSIGN_UNIQ packet."""

    handle: bytes
    function: bytes
    unique: bytes
    workload: bytes


class RawWorker:
    """
    One worker's connection.

    Attributes:
        errors: The bodies of received ERROR packets.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.errors: list[bytes] = []

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet; drop it if the connection is closed, where uvloop would raise."""
        if not self._writer.is_closing():
            self._writer.write(packet(kind, *arguments))

    async def grab(self) -> Assignment:
        """Grab a job; sleep until there is one."""
        while True:
            self.send(PacketType.GRAB_JOB_UNIQ)
            kind, body = await self._reply()
            if kind is PacketType.JOB_ASSIGN_UNIQ:
                return Assignment(*body.split(b"\0", 3))
            assert kind is PacketType.NO_JOB
            self.send(PacketType.PRE_SLEEP)
            while kind is not PacketType.NOOP:
                kind, _ = await self._receive()

    def complete(self, job: Assignment, data: bytes = b"") -> None:
        """Send WORK_COMPLETE."""
        self.send(PacketType.WORK_COMPLETE, job.handle, data)

    async def complete_next(self, data: bytes | None = None) -> Assignment:
        """Grab a job and complete it, with its reversed workload by default."""
        job = await self.grab()
        self.complete(job, job.workload[::-1] if data is None else data)
        return job

    async def flush(self) -> None:
        """Wait until the job server has processed everything sent so far."""
        self.send(PacketType.ECHO_REQ, b"flush")
        assert await self._reply() == (PacketType.ECHO_RES, b"flush")

    def abort(self) -> None:
        """Abort the connection, as if the worker's process had died."""
        self._writer.transport.abort()

    async def _reply(self) -> tuple[PacketType, bytes]:
        """Return the next packet that is neither NOOP nor ERROR."""
        while True:
            kind, body = await self._receive()
            if kind is PacketType.ERROR:
                self.errors.append(body)
            elif kind is not PacketType.NOOP:
                return kind, body

    async def _receive(self) -> tuple[PacketType, bytes]:
        async with asyncio.timeout(WITHIN):
            _, kind, size = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            return PacketType(kind), await self._reader.readexactly(size)


@asynccontextmanager
async def raw_worker(address: str, *functions: str) -> AsyncIterator[RawWorker]:
    """Connect a worker that has registered these functions, until the end of the block."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    worker = RawWorker(reader, writer)
    try:
        for function in functions:
            worker.send(PacketType.CAN_DO, function.encode())
        await worker.flush()
        yield worker
    finally:
        worker.abort()


@asynccontextmanager
async def echo_worker(address: str, *functions: str) -> AsyncIterator[list[Assignment]]:
    """Run a worker that completes each job with its reversed workload; yields the list of its jobs."""
    done: list[Assignment] = []

    async def serve(worker: RawWorker) -> None:
        while True:
            done.append(await worker.complete_next())

    async with raw_worker(address, *functions) as worker:
        # Only a NOOP wakes the worker, so it may sleep for as long as the test lasts.
        serving = asyncio.create_task(serve(worker))
        try:
            yield done
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
