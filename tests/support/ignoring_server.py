"""A job server that ignores some types of requests: a real one behind a proxy that drops them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from geartrain.protocol.packets import HEADER, PacketType
from tests.support.job_server import AnyJobServer
from tests.support.scripted import ScriptedServer, scripted_server


class IgnoringServer:
    """
    A job server behind a proxy that drops requests.

    Attributes:
        address: ``host:port``.
        ignored: How many requests of each type were dropped.
        passed: How many requests of each type reached the job server.
    """

    def __init__(self, job_server: AnyJobServer, kinds: Collection[PacketType]) -> None:
        self._job_server = job_server
        self._kinds = kinds
        self.scripted: ScriptedServer | None = None
        self.ignored: Counter[PacketType] = Counter()
        self.passed: Counter[PacketType] = Counter()

    @property
    def address(self) -> str:
        assert self.scripted is not None
        return self.scripted.address

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        assert self.scripted is not None
        return self.scripted.connections

    async def script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._job_server.port)
        answers = asyncio.create_task(self._pass_answers(server_reader, writer))
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                await self._pass_requests(reader, server_writer)
        finally:
            answers.cancel()
            server_writer.close()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def _pass_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while first := await reader.read(1):
            if first != b"\0":
                writer.write(first + await reader.readline())
                continue
            header = first + await reader.readexactly(HEADER.size - 1)
            _, number, size = HEADER.unpack(header)
            kind, body = PacketType(number), await reader.readexactly(size)
            if kind in self._kinds:
                self.ignored[kind] += 1
            else:
                self.passed[kind] += 1
                writer.write(header + body)


@asynccontextmanager
async def ignoring(job_server: AnyJobServer, *kinds: PacketType) -> AsyncIterator[IgnoringServer]:
    """Run the server until the end of the block."""
    server = IgnoringServer(job_server, kinds)
    async with scripted_server(server.script) as server.scripted:
        yield server
