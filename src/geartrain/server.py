"""A job server in this process, for a first run and for tests. It keeps nothing on disk."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from geartrain.address import DEFAULT_PORT, Address
from geartrain.checks import check_count, check_flag, check_logger, encode_name
from geartrain.connection import Connection
from geartrain.errors import LocalProtocolError
from geartrain.forks import check_process, keep_from_children
from geartrain.handshakes import Handshakes
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE, TEXT_LINE
from geartrain.protocol.packets import describe
from geartrain.protocol.server import DEFAULT_MAX_BACKLOG, DEFAULT_MAX_QUEUE_SIZE, Broker
from geartrain.tls import check_tls

if TYPE_CHECKING:
    from geartrain.protocol.peer import Peer

__all__ = ["JobServer"]

_JOIN_LIMIT: Final = 64 * 1024  # shorter answers to one peer are joined here, once for all
_LONGEST_SLEEP: Final = 3600.0  # event loops disagree on how far ahead a timer may lie


class JobServer:
    """
    A Gearman job server in the running event loop.

    It speaks the whole protocol as gearmand does, and is as good as gone when its process ends: for production, run
    gearmand. Use it with ``async with``, or :meth:`start` it and :meth:`aclose` it. After ``aclose`` it can be started
    again, on the same port, with nothing in it and handles from 1 on.

    Args:
        host: Where to listen: a name, an IPv4 or an IPv6 address.
        port: A TCP port; 0 picks a free one, which :attr:`address` tells.
        tls: Speaks TLS, by this context for a server's side. If its ``verify_mode`` is ``ssl.CERT_REQUIRED``, clients
            without a certificate that it trusts are refused.
        job_retries: How many workers a job is given to, one after the other, before it fails, as ``-j`` of
            gearmand 1.1.20; 0 for any number.
        exceptions: Forward WORK_EXCEPTION also to clients that did not ask for it, as ``--exceptions`` of gearmand.
        handle_prefix: What every handle begins with, in front of its number; by default ``H:`` and the name of the
            machine.
        max_packet_size: The longest body in bytes that is taken; a peer that announces a longer one is cut off.
        max_queue_size: Bytes that all jobs and functions together may take; over it submissions are refused with
            QUEUE_ERROR.
        max_backlog: Bytes that a peer may leave unread before it is cut off.
        clock: Tells the Unix time. It is read once, by :meth:`start`; from then on the event loop's clock counts.
        logger: Instead of ``geartrain.server``. INFO: peers that come and go, and why one was cut off. DEBUG: each
            packet, with workloads elided.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        tls: ssl.SSLContext | None = None,
        job_retries: int = 0,
        exceptions: bool = False,
        handle_prefix: str | None = None,
        max_packet_size: int = DEFAULT_MAX_SIZE,
        max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE,
        max_backlog: int = DEFAULT_MAX_BACKLOG,
        clock: Callable[[], float] = time.time,
        logger: logging.Logger | None = None,
    ) -> None:
        if not isinstance(host, str):
            raise TypeError(f"host is a name or an address, got {host!r}")
        if not callable(clock):
            raise TypeError(f"clock is a function that tells the Unix time, got {clock!r}")
        self._host = host
        self._port = check_count("port", port, 0, 65535)
        self._tls = check_tls(tls, server_side=True)
        prefix = f"H:{platform.node()}" if handle_prefix is None else handle_prefix
        self._prefix = encode_name("handle_prefix", prefix)
        self._job_retries = check_count("job_retries", job_retries, 0)
        self._exceptions = check_flag("exceptions", exceptions)
        self._max_packet_size = check_count("max_packet_size", max_packet_size, 1)
        self._max_queue_size = check_count("max_queue_size", max_queue_size, 1)
        self._max_backlog = check_count("max_backlog", max_backlog, 1)
        self._clock = clock
        self._logger = check_logger(logger, "geartrain.server")
        self._server: asyncio.Server | None = None
        self._running: _Running | None = None
        self._handshakes: Handshakes | None = None

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``, fit for a :class:`~geartrain.Client`."""
        return str(Address(self._host, self._port, tls=self._tls is not None))

    async def start(self) -> None:
        """
        Begin to listen.

        Raises:
            OSError: If the port is taken, or the host is none of this machine's.
            RuntimeError: If it is running already.
        """
        if self._running is not None:
            raise RuntimeError(f"the job server at {self.address} is running already")
        from geartrain import __version__  # the package imports this module

        broker = Broker(
            handle_prefix=self._prefix,
            job_retries=self._job_retries,
            exceptions=self._exceptions,
            max_packet_size=self._max_packet_size,
            max_queue_size=self._max_queue_size,
            max_backlog=self._max_backlog,
            version=f"geartrain-{__version__}".encode(),
            pid=os.getpid(),
        )
        loop = asyncio.get_running_loop()
        running = self._running = _Running(broker, loop, self._clock() - loop.time(), self._max_backlog, self._logger)
        try:
            # asyncio's way to listen at once ends by waiting for a turn of the loop, and whoever is cancelled in that
            # has no server to close.
            server = self._server = await loop.create_server(
                self._make_factory(running), self._host, self._port, start_serving=False
            )
            keep_from_children(self, JobServer._descriptors)
            if self._port == 0:
                self._port = server.sockets[0].getsockname()[1]
            await server.start_serving()
        except BaseException:
            self._stop()
            raise
        self._logger.info("listening on %s", self.address)

    def _make_factory(self, running: _Running) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of an accepted connection."""
        if self._tls is None:
            return lambda: _PeerConnection(running)
        self._handshakes = Handshakes(self._tls, lambda: _PeerConnection(running), running.refuse)
        return self._handshakes.accept

    async def aclose(self) -> None:
        """
        Close the port and all connections at once, and forget all jobs. Peers see the end of the connection.

        Cancelling it leaves nothing open either; the sockets are closed in the turns of the loop that follow.
        """
        running, handshakes = self._running, self._handshakes
        if running is None:
            return
        self._check_place(running)
        self._stop()
        if handshakes is not None:
            await handshakes.wait_closed()
        await running.wait_closed()
        self._logger.info("closed %s", self.address)

    def _descriptors(self) -> list[int]:
        """Return the file descriptors of the sockets on which it listens."""
        return [sock.fileno() for sock in self._server.sockets] if self._server is not None else []

    def _check_place(self, running: _Running) -> None:
        check_process(running.broker.pid, repr(self))
        if running.loop is not asyncio.get_running_loop():
            raise LocalProtocolError(
                f"{self!r} runs in another event loop; from here use asyncio.run_coroutine_threadsafe"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._running is not None:
            self._running.close()
        self._server = self._running = self._handshakes = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Running:
    """What a job server has between start and close: the broker, its connections, and the timer for what is due."""

    def __init__(
        self,
        broker: Broker,
        loop: asyncio.AbstractEventLoop,
        epoch: float,
        max_backlog: int,
        logger: logging.Logger,
    ) -> None:
        self.broker = broker
        self.loop = loop
        self.logger = logger
        self.links: dict[Peer, _Link] = {}
        self.open: dict[_Link, None] = {}  # with those whose peer has failed, and that are closing
        self.closed = False
        self._epoch = epoch  # the Unix time at which the loop's clock stood at 0
        self._max_backlog = max_backlog
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None

    @property
    def now(self) -> float:
        """The present time, as the broker wants it."""
        return self.loop.time() + self._epoch

    def after(self) -> None:
        """Do what is to be done after each call of the broker: send, close, and set the timer."""
        if self.closed:
            return
        broker = self.broker
        while ready := broker.take_ready():
            for peer in ready:
                if peer in self.links:  # it may have gone by what another one did
                    self.links[peer].deliver(peer, self._max_backlog)
        deadline = broker.next_deadline
        if deadline != self._deadline:
            self._set_timer(deadline)

    def refuse(self, host: str, port: int, error: OSError) -> None:
        """Hear of a peer with which there was no agreement on TLS."""
        self.logger.info("%s: refused: %s", Address(host, port), error)

    def close(self) -> None:
        """Close all connections at once."""
        self.closed = True
        for link in self.open:
            link.connection.close()
            link.connection.abort()  # a peer that does not read, or does not answer the end of TLS, would hold it up
        self._set_timer(None)

    async def wait_closed(self) -> None:
        """Wait until no socket is left."""
        while self.open:
            await next(iter(self.open)).connection.wait_closed()

    def _set_timer(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._deadline = None, deadline
        if deadline is not None:
            when = min(deadline - self._epoch, self.loop.time() + _LONGEST_SLEEP)
            self._timer = self.loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = self._deadline = None
        self.broker.tick(self.now)
        self.after()


class _PeerConnection(Connection):
    """A connection of a job server."""

    def __init__(self, running: _Running) -> None:
        self._link = _Link(running, self)
        super().__init__(lambda _: self._link)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # With TLS this is when the handshake has succeeded.
        super().connection_made(transport)
        self._link.connected()

    def eof_received(self) -> None:
        # Whoever has nothing more to ask may still read the answers. After this the transport writes what it was
        # given and closes.
        self._flush()


class _Link:
    """Between one connection and its peer in the broker."""

    def __init__(self, running: _Running, connection: Connection) -> None:
        self.connection = connection
        self._running = running
        self._peer: Peer | None = None
        self._name = ""

    def connected(self) -> None:
        """Introduce the new peer to the broker."""
        running, (host, port) = self._running, self.connection.peer
        sock = self.connection.socket
        number = sock.fileno() if sock is not None else len(running.open) + 1
        self._name = str(Address(host, port))
        running.open[self] = None
        if running.closed:  # it was accepted just before the port was closed
            self.connection.abort()
            return
        self._peer = running.broker.connected(host, number)
        running.links[self._peer] = self
        running.logger.info("%s: connected", self._name)

    def data_received(self, data: bytes) -> None:
        """Give the broker what came."""
        peer, running = self._peer, self._running
        if peer is None:
            return
        peer.trace = self._trace if running.logger.isEnabledFor(logging.DEBUG) else None
        running.broker.receive(peer, data, running.now)
        running.after()
        if peer.pending:
            # It has asked for much, and gets it little by little; until then it can ask for nothing more.
            self.connection.pause_reading()
            running.loop.call_soon(self._go_on)
        elif not self.connection.writable:
            self.connection.pause_reading()

    def writing_resumed(self) -> None:
        """Go on with a peer that reads again."""
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """Take the peer from the broker."""
        self._running.logger.info("%s: disconnected%s", self._name, f" by {error!r}" if error else "")
        del self._running.open[self]
        self._leave()
        self._running.after()

    def deliver(self, peer: Peer, max_backlog: int) -> None:
        """Send what the broker has for this peer, and close the connection if the peer has failed."""
        connection = self.connection
        short = peer.outgoing_size < _JOIN_LIMIT
        pieces = peer.take()
        if short:
            connection.send(b"".join(pieces))
        else:
            for piece in pieces:
                connection.send(piece)
        if not connection.writable and connection.unsent > max_backlog:
            peer.fail(f"a peer let more than {max_backlog} bytes pile up unread")
        if peer.failure is not None:
            self._running.logger.info("%s: closing the connection: %s", self._name, peer.failure)
            self._leave()
            if connection.writable:
                connection.close()
            else:
                connection.abort()

    def _leave(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            del self._running.links[peer]
            self._running.broker.lost(peer, self._running.now)

    def _go_on(self) -> None:
        peer, running = self._peer, self._running
        if peer is None or not self.connection.writable:
            return
        if peer.pending:
            running.broker.resume(peer, running.now)
            running.after()
        if peer.pending:
            running.loop.call_soon(self._go_on)
        elif self.connection.writable:
            self.connection.resume_reading()

    def _trace(self, peer: Peer, direction: str, kind: int, body: bytes) -> None:
        words = repr(body[:100]) if kind == TEXT_LINE else describe(kind, body)
        self._running.logger.debug("%s: %s %s", self._name, direction, words)
