"""
A process in which the tests' job servers live, so that their sockets and asyncio tasks are not taken for a test's own.

It reads orders from standard input and answers each on standard output, one JSON value a line. Starting a server in
it takes a millisecond, a process of its own would take a hundred.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from geartrain.server import JobServer


class Host:
    """The servers by number, and what went wrong in them."""

    def __init__(self) -> None:
        self.servers: dict[int, JobServer] = {}
        self.faults: list[str] = []

    async def run(self) -> None:
        """Obey orders until standard input ends."""
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
        """Start a new server, or the one of this number again; answer its address."""
        server = self.servers.get(number)
        if server is None:
            server = self.servers[number] = JobServer(port=0, **options)
        await server.start()
        return server.address

    async def limit_descriptors(self, soft: int | None) -> int:
        """Set the limit of file descriptors, at most to what is allowed; answer it."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = hard if soft is None else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft

    async def stop(self, number: int) -> list[str]:
        """Close a server; answer what has gone wrong since the last time."""
        await self.servers[number].aclose()
        for _ in range(10):  # asyncio ends by itself what it does for a connection that it has just accepted
            await asyncio.sleep(0)
        faults, self.faults = self.faults, []
        return faults + [f"an asyncio task is left: {task}" for task in asyncio.all_tasks() - {asyncio.current_task()}]


if __name__ == "__main__":
    asyncio.run(Host().run())
