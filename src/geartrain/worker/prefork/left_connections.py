"""The connections of processes that have ended, on which the worker says the last word."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from contextvars import Context
from typing import Final

__all__ = ["LeftConnections"]

_DELIVERY_TIMEOUT: Final = 5.0  # seconds that a job server has to receive the last packets
_READ_SIZE: Final = 64 * 1024


class LeftConnections:
    """
    Ends connections so that everything sent on them arrives.

    Closing a socket with unread data, such as a NOOP, resets the connection, and what is in transit may be lost. So
    each is closed for writing first, and read until the job server has closed it as well.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, connection: socket.socket, packets: bytes) -> None:
        """Send packets on a connection, and close it."""
        task = self._loop.create_task(_finish(connection, packets), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=Context())

    def abort(self) -> None:
        """Close all connections immediately."""
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all connections are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _finish(connection: socket.socket, packets: bytes) -> None:
    loop = asyncio.get_running_loop()
    with connection, suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(_DELIVERY_TIMEOUT):
            await loop.sock_sendall(connection, packets)
            connection.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(connection, _READ_SIZE):
                pass
