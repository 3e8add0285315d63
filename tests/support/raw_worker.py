"""A worker that does, packet by packet, what a test tells it to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from geartrain.protocol.packets import HEADER, PacketType
from tests.support.wire import packet

WITHIN = 10.0  # seconds until a missing packet fails the test


class Assignment(NamedTuple):
    """What a worker is told of a job."""

    handle: bytes
    function: bytes
    unique: bytes
    workload: bytes


class RawWorker:
    """
    One worker's connection.

    Attributes:
        errors: The bodies of the ERROR packets that came.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.errors: list[bytes] = []

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet; to nobody if the connection is gone, where uvloop would raise."""
        if not self._writer.is_closing():
            self._writer.write(packet(kind, *arguments))

    async def grab(self) -> Assignment:
        """Take a job, and sleep before if there is none."""
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
        """Take a job and complete it, with its own workload backwards if nothing else is said."""
        job = await self.grab()
        self.complete(job, job.workload[::-1] if data is None else data)
        return job

    async def flush(self) -> None:
        """Wait until the job server has worked off what was sent."""
        self.send(PacketType.ECHO_REQ, b"flush")
        assert await self._reply() == (PacketType.ECHO_RES, b"flush")

    def abort(self) -> None:
        """Cut the connection, as the death of a worker's process does."""
        self._writer.transport.abort()

    async def _reply(self) -> tuple[PacketType, bytes]:
        """Return the next packet that is neither a wake-up nor an ERROR."""
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
    """Connect a worker for these functions, until the end of the block; when it is given the job server knows it."""
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
    """Run a worker that completes each job with its workload backwards; gives the list of the jobs that it had."""
    done: list[Assignment] = []

    async def serve(worker: RawWorker) -> None:
        while True:
            done.append(await worker.complete_next())

    async with raw_worker(address, *functions) as worker:
        # Only what a job server sends unasked ends its sleep, so it may sleep for as long as the test lasts.
        serving = asyncio.create_task(serve(worker))
        try:
            yield done
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
