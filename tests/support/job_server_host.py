"""
Runs the tests' job servers in a separate process, so that their sockets and asyncio tasks are not counted as a test's.

The process reads commands from standard input and writes each response to standard output, one JSON value per line.
Starting a server here takes a millisecond; a process for each would take a hundred.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from geartrain.server import JobServer


class Host:
    """The servers by number, and their errors."""

    def __init__(self) -> None:
        self.servers: dict[int, JobServer] = {}
        self.faults: list[str] = []

    async def run(self) -> None:
        """Execute commands until the end of standard input."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.faults.append(repr(context)))
        orders = asyncio.StreamReader()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            order = json.loads(line)
            answer = await getattr(self, order.pop("do"))(**order)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        pipe.close()

    async def start(self, number: int, options: dict[str, Any]) -> str:
        """Start a new server, or restart the one with this number; return its address."""
        server = self.servers.get(number)
        if server is None:
            server = self.servers[number] = JobServer(port=0, **options)
        await server.start()
        return server.address

    async def limit_descriptors(self, soft: int | None) -> int:
        """Set the limit of file descriptors, up to the allowed maximum, and return it."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = hard if soft is None else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft

    async def stop(self, number: int) -> list[str]:
        """Close a server; return the errors since the last call."""
        await self.servers[number].aclose()
        for _ in range(10):  # asyncio finishes its own tasks for connections that were just accepted
            await asyncio.sleep(0)
        faults, self.faults = self.faults, []
        return faults + [
            f"an asyncio task is still running: {task}" for task in asyncio.all_tasks() - {asyncio.current_task()}
        ]


if __name__ == "__main__":
    asyncio.run(Host().run())
