"""TLS handshakes of accepted connections, which can be cancelled at any time."""

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
_STARTED_PER_TURN: Final = 8  # handshakes; each takes about a millisecond of CPU


class TlsAcceptor:
    """
    Performs the TLS handshakes of a plain asyncio server's connections.

    A TLS server of asyncio does not expose its handshakes, and continues them after it was closed for as long as the
    peer is silent. Here, :meth:`close` cancels them.

    Args:
        tls: The server's context.
        factory: Creates the protocol of a connection; its ``connection_made`` is called after the handshake.
        on_failed: Called with the peer's host and port, and the error, when a handshake has failed.
        max_handshakes: The maximum number of handshakes in progress; one more cancels the oldest.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        factory: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[str, int, OSError], None],
        *,
        max_handshakes: int,
    ) -> None:
        self._tls = tls
        self._factory = factory
        self._on_failed = on_failed
        self._max_handshakes = max_handshakes
        self._tasks: dict[asyncio.Task[None], None] = {}  # oldest first
        self._turns: deque[asyncio.Future[None]] = deque()  # of handshakes that have not started
        self._closed = False

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection; use this as the factory for ``create_server``."""
        return _AcceptedConnection(self)

    def start_handshake(self, transport: asyncio.Transport) -> None:
        """Start the handshake of a new connection from which nothing has been read."""
        if not self._closed:  # otherwise it was accepted just before the port was closed
            # uvloop calls getpeername only now, and it fails if the peer has already reset the connection.
            host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
            try:
                # A transport does not give up its socket, so the handshake uses a duplicate descriptor.
                sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            except OSError as error:  # too many open files, or the peer has disconnected
                self._on_failed(host, port, error)
            else:
                self._make_room()
                task = asyncio.get_running_loop().create_task(self._handshake(sock, host, port), context=Context())
                self._tasks[task] = None
                task.add_done_callback(self._tasks.pop)
                task.add_done_callback(
                    lambda task: sock.close() if task.cancelled() else None
                )  # it may not have started
        transport.abort()

    def _make_room(self) -> None:
        """Cancel the oldest handshake if there are too many."""
        if len(self._tasks) >= self._max_handshakes:
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
            self._on_failed(host, port, explain_tls(error, "the peer"))
        except asyncio.CancelledError:
            if not self._closed:
                self._on_failed(
                    host,
                    port,
                    TimeoutError("the limit on TLS handshakes is reached, and its handshake is not complete"),
                )
            raise

    async def _wait_for_turn(self) -> None:
        """Wait for a turn of the loop in which few handshakes start, so that a burst does not block the loop."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._turns.append(turn)
        if len(self._turns) == 1:
            loop.call_soon(self._start_some, loop, context=Context())
        await turn

    def _start_some(self, loop: asyncio.AbstractEventLoop) -> None:
        started = 0
        while self._turns and started < _STARTED_PER_TURN:
            turn = self._turns.popleft()
            if not turn.done():  # otherwise it was cancelled
                turn.set_result(None)
                started += 1
        if self._turns:
            loop.call_soon(self._start_some, loop, context=Context())

    def close(self) -> None:
        """Cancel all handshakes, and start no more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all handshakes have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # the sockets are closed in the next turn of the loop


class _AcceptedConnection(asyncio.Protocol):
    """An accepted connection from which nothing has been read."""

    def __init__(self, acceptor: TlsAcceptor) -> None:
        self._acceptor = acceptor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._acceptor.start_handshake(
            cast(asyncio.Transport, transport)
        )  # uvloop's is one, but does not inherit from it
