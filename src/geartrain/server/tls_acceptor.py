"""A server's TLS handshakes, which can be given up at any time."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final, cast

from geartrain.tls import explain_tls

__all__ = ["TlsAcceptor"]

_TIMEOUT: Final = 60.0  # seconds; asyncio's own default
_BEGUN_AT_ONCE: Final = 8  # handshakes; each takes about a millisecond of CPU


class TlsAcceptor:
    """
    Turns accepted connections into such that speak TLS.

    A server that asyncio makes for TLS keeps each handshake to itself, and goes on with it after it was closed, as
    long as a silent peer likes. Here they are begun for a plain server, and :meth:`close` ends those under way.

    Args:
        tls: The context, for a server's side.
        factory: Makes the protocol of a connection; it hears of the connection when the handshake has succeeded.
        failed: Told of each handshake that failed: the peer's host and port, and why.
        at_most: Handshakes at a time; one more takes the place of the oldest.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
        failed: Callable[[str, int, OSError], None],
        *,
        at_most: int,
    ) -> None:
        self._tls = tls
        self._factory = factory
        self._failed = failed
        self._at_most = at_most
        self._tasks: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._turns: deque[asyncio.Future[None]] = deque()  # of handshakes that have not begun
        self._closed = False

    def accept(self) -> asyncio.Protocol:
        """Make what a plain server's ``create_server`` wants of its factory."""
        return _Accepted(self)

    def begin(self, transport: asyncio.Transport) -> None:
        """Begin the handshake on a connection that was just accepted, and of which nothing has been read."""
        if not self._closed:  # else it was accepted just before the port was closed
            # uvloop asks for the name only now, and a peer that has reset the connection has none any more.
            host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
            try:
                # A transport does not give its socket away; but it closes no more than its own descriptor of it.
                sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            except OSError as error:  # too many open files, or the peer has gone
                self._failed(host, port, error)
            else:
                self._make_room()
                task = asyncio.get_running_loop().create_task(self._handshake(sock, host, port), context=Context())
                self._tasks[task] = None
                task.add_done_callback(self._tasks.pop)
                task.add_done_callback(lambda task: sock.close() if task.cancelled() else None)  # maybe before it began
        transport.abort()

    def _make_room(self) -> None:
        """Give the oldest handshake up, if there are too many."""
        if len(self._tasks) >= self._at_most:
            oldest = next((task for task in self._tasks if not task.cancelling()), None)
            if oldest is not None:
                oldest.cancel()

    async def _handshake(self, sock: socket.socket, host: str, port: int) -> None:
        try:
            await self._wait_for_turn()
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, sock, ssl=self._tls, ssl_handshake_timeout=_TIMEOUT
            )
        except OSError as error:
            self._failed(host, port, explain_tls(error, "the peer"))
        except asyncio.CancelledError:
            if not self._closed:
                self._failed(host, port, TimeoutError("others want its place, and its TLS handshake is not done"))
            raise

    async def _wait_for_turn(self) -> None:
        """Wait until few others begin in the same turn of the loop, so that a burst of them does not block it."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._turns.append(turn)
        if len(self._turns) == 1:
            loop.call_soon(self._begin_some, loop, context=Context())
        await turn

    def _begin_some(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = 0
        while self._turns and begun < _BEGUN_AT_ONCE:
            turn = self._turns.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                begun += 1
        if self._turns:
            loop.call_soon(self._begin_some, loop, context=Context())

    def close(self) -> None:
        """End all handshakes under way, and begin no more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is left."""
        if self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # the sockets are closed in the next turn of the loop


class _Accepted(asyncio.Protocol):
    """A connection of which nothing has been read."""

    def __init__(self, acceptor: TlsAcceptor) -> None:
        self._acceptor = acceptor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._acceptor.begin(cast(asyncio.Transport, transport))  # uvloop's is one in all but name
