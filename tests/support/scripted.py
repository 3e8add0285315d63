"""A TCP server that runs a test's script for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer:
    """
    Listens on a free port and runs a script for each connection, which is closed when the script returns.

    Attributes:
        address: Where it listens.
        connections: The number of accepted connections.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._running: set[asyncio.Task[None]] = set()
        self.address = ""
        self.connections = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._run(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(reader, writer)
        except ConnectionError:
            pass  # the peer has closed the connection; scripts need not handle that
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[ScriptedServer]:
    """Run ``script`` for each connection until the end of the block."""
    scripted = ScriptedServer(script)
    server = await asyncio.start_server(scripted.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    scripted.address = f"{host}:{port}"
    try:
        yield scripted
    finally:
        server.close()
        await scripted.stop()
        await server.wait_closed()


async def sleep_forever() -> None:
    """Wait until cancelled."""
    await asyncio.get_running_loop().create_future()
