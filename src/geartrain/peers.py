"""The connections of a job server, what each may hold, and what all of them together."""

from __future__ import annotations

import asyncio
import logging
import resource
from contextvars import Context
from typing import TYPE_CHECKING, Final, NamedTuple

from geartrain.address import Address
from geartrain.connection import Connection
from geartrain.loop_binding import LoopBinding
from geartrain.printable import printable
from geartrain.protocol import dispatch
from geartrain.protocol.decoder import TEXT_LINE
from geartrain.protocol.packets import describe

if TYPE_CHECKING:
    from geartrain.protocol.peer import Peer
    from geartrain.protocol.server import Broker

__all__ = [
    "DEFAULT_MAX_BUFFER_SIZE",
    "DEFAULT_MAX_CONNECTIONS",
    "Limits",
    "PeerConnection",
    "Running",
    "room_for",
]

DEFAULT_MAX_CONNECTIONS: Final = 10_000
DEFAULT_MAX_BUFFER_SIZE: Final = 1024 * 1024 * 1024

_JOIN_LIMIT: Final = 64 * 1024  # shorter answers to one peer are joined here, once for all
_MAX_DELIVERIES: Final = 200  # peers to which something is sent at once; to write to one takes about 10 us
_MAX_CLOSES: Final = 200  # connections that are closed at once
_SPARE: Final = 512  # file descriptors
_LONGEST_SLEEP: Final = 3600.0  # event loops disagree on how far ahead a timer may lie


class Limits(NamedTuple):
    """
    What the peers of a job server may cost it.

    Attributes:
        connections: At a time.
        buffer_size: Bytes that all of them together may hold.
        backlog: Bytes that one of them may leave unread.
    """

    connections: int
    buffer_size: int
    backlog: int


def room_for(max_connections: int) -> int:
    """Return how many connections there may be, so that file descriptors are left for all else."""
    # Without one, a connection can be neither accepted nor refused: event loops let all wait for a second. And they
    # accept some hundreds before one that has to give way is closed.
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return max_connections
    return min(max_connections, max(descriptors - _SPARE, descriptors // 2))


class Running:
    """
    What a job server has between start and close: the broker, its connections, and the timer for what is due.

    Args:
        broker: Does what peers ask for.
        binding: The event loop, its thread and its process.
        epoch: The Unix time at which the loop's clock stood at 0.
        limits: What all connections share.
        logger: Told who comes and goes, and each packet.

    Attributes:
        links: The connections whose peers the broker knows.
        open: These, and those that are closing since their peer has failed.
        silent: Those of which no whole request has come, the oldest first.
        closing: Those whose peer has failed, and that may take as long as it likes to read the rest, the oldest first.
    """

    def __init__(
        self,
        broker: Broker,
        binding: LoopBinding,
        epoch: float,
        limits: Limits,
        logger: logging.Logger,
    ) -> None:
        self.broker = broker
        self.binding = binding
        self.loop: asyncio.AbstractEventLoop = binding.loop
        self.logger = logger
        self.limits = limits
        self.links: dict[Peer, _Link] = {}
        self.open: dict[_Link, None] = {}
        self.silent: dict[_Link, None] = {}
        self.closing: dict[_Link, None] = {}
        self.closed: bool = False
        self._epoch = epoch
        self._moved = 0  # bytes that came or went since all that the connections hold was last counted
        self._allowance = limits.buffer_size  # may move before it is counted again
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._continuing = False  # something is left to do in the next turn of the loop

    @property
    def now(self) -> float:
        """The present time, as the broker wants it."""
        return self.loop.time() + self._epoch

    def after(self) -> None:
        """Do what is to be done after each call of the broker: send, close, and set the timer."""
        if self.closed:
            return
        broker = self.broker
        self._look_after_buffers()
        left = _MAX_DELIVERIES
        while ready := broker.take_ready(left):
            left -= len(ready)
            for peer in ready:
                if peer in self.links:  # it may have gone by what another one did
                    self.links[peer].deliver(peer)
                    self._look_after_buffers()
        if (broker.unfinished or not left) and not self._continuing:
            self._continuing = True
            self.loop.call_soon(self._continue, context=Context())
        deadline = broker.next_deadline
        if deadline != self._deadline:
            self._set_timer(deadline)

    def _continue(self) -> None:
        self._continuing = False
        if not self.closed and self.broker.unfinished:
            self.broker.work(self.now)
        self.after()

    def take_in(self, link: _Link) -> bool:
        """Take one more, if need be in the place of one that is closing anyway, or has never asked for anything."""
        self.open[link] = None
        if self.closed:  # it was accepted just before the port was closed
            return False
        if len(self.links) + len(self.closing) >= self.limits.connections:
            if self.closing:
                next(iter(self.closing)).cut("it has not read the last answers, and others want its place")
            elif self.silent:
                next(iter(self.silent)).cut("it has sent no whole request, and others want its place")
            else:
                self.logger.info("refused a connection: %d are open, and all are used", len(self.links))
                return False
        return True

    def count(self, size: int) -> None:
        """Note that so many bytes came or went."""
        self._moved += size

    def _look_after_buffers(self) -> None:
        """Cut off those connections that hold most, if all together hold too much."""
        # To count what they hold takes a while with many. It cannot have grown by more than what was moved.
        if self._moved < self._allowance:
            return
        sizes = {link: link.buffered for link in (*self.links.values(), *self.closing)}
        total, limit = sum(sizes.values()), self.limits.buffer_size
        for link in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= limit - limit // 8:
                break
            total -= sizes[link]
            link.cut(f"it held {sizes[link]} of the {limit} bytes that all connections together may hold")
        self._moved, self._allowance = 0, limit - total

    def refuse(self, host: str, port: int, error: OSError) -> None:
        """Hear of a peer with which there was no agreement on TLS."""
        self.logger.info("%s: refused: %s", Address(host, port), error)

    def close(self) -> None:
        """Close all connections, the last ones in later turns of the loop, and process nothing more."""
        self.closed = True
        self._set_timer(None)
        self._close_some(list(self.open))

    def _close_some(self, links: list[_Link]) -> None:
        for link in links[-_MAX_CLOSES:]:
            link.connection.close()
            link.connection.abort()  # a peer that does not read, or does not answer the end of TLS, would hold it up
        del links[-_MAX_CLOSES:]
        if links:
            self.loop.call_soon(self._close_some, links, context=Context())

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
            self._timer = self.loop.call_at(when, self._tick, context=Context())

    def _tick(self) -> None:
        self._timer = self._deadline = None
        self.broker.tick(self.now)
        self.after()


class PeerConnection(Connection):
    """A connection of a job server."""

    def __init__(self, running: Running) -> None:
        self._link = _Link(running, self)
        super().__init__(lambda _: self._link)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # With TLS this is when the handshake has succeeded.
        super().connection_made(transport)
        self._link.connected()

    def eof_received(self) -> None:  # noqa: D102
        # Whoever has nothing more to ask may still read the answers. After this the transport writes what it was
        # given and closes.
        self.flush()


class _Link:
    """Between one connection and its peer in the broker."""

    def __init__(self, running: Running, connection: Connection) -> None:
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
        if not running.take_in(self):
            self.connection.abort()
            return
        self._peer = running.broker.connected(host, number)
        running.links[self._peer] = self
        running.silent[self] = None
        running.logger.info("%s: connected", self._name)

    def data_received(self, data: bytes) -> None:
        """Give the broker what came."""
        peer, running = self._peer, self._running
        if peer is None or running.closed:
            return
        peer.trace = self._trace if running.logger.isEnabledFor(logging.DEBUG) else None
        running.count(len(data))
        dispatch.receive(running.broker, peer, data, running.now)
        if self in running.silent and self.connection.bytes_received > peer.decoder.held:
            del running.silent[self]
        running.after()
        if peer.pending:
            # It has asked for much, and gets it little by little; until then it can ask for nothing more.
            self.connection.pause_reading()
            running.loop.call_soon(self._go_on, context=Context())
        elif not self.connection.writable:
            self.connection.pause_reading()

    def writing_resumed(self) -> None:
        """Go on with a peer that reads again."""
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """Take the peer from the broker."""
        self._running.logger.info("%s: disconnected%s", self._name, f" by {error!r}" if error else "")
        del self._running.open[self]
        if not self._running.closed:
            self._leave()
            self._running.after()

    @property
    def buffered(self) -> int:
        """Bytes that are held for this connection."""
        peer = self._peer
        return self.connection.unsent + (peer.decoder.held + peer.pending_size if peer is not None else 0)

    def cut(self, why: str) -> None:
        """Close the connection at once."""
        self._running.logger.info("%s: cut off: %s", self._name, why)
        self._leave()
        self.connection.abort()

    def deliver(self, peer: Peer) -> None:
        """Send what the broker has for this peer, and close the connection if the peer has failed."""
        connection = self.connection
        max_backlog = self._running.limits.backlog
        self._running.count(peer.outgoing_size)
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
                self._running.closing[self] = None
                connection.close()
            else:
                connection.abort()

    def _leave(self) -> None:
        self._running.closing.pop(self, None)
        peer, self._peer = self._peer, None
        if peer is not None:
            del self._running.links[peer]
            self._running.silent.pop(self, None)
            self._running.broker.lost(peer, self._running.now)

    def _go_on(self) -> None:
        peer, running = self._peer, self._running
        if peer is None or running.closed or not self.connection.writable:
            return
        if peer.pending:
            dispatch.resume(running.broker, peer, running.now)
            running.after()
        if peer.pending:
            running.loop.call_soon(self._go_on, context=Context())
        elif self.connection.writable:
            self.connection.resume_reading()

    def _trace(self, peer: Peer, direction: str, kind: int, body: bytes) -> None:
        words = f"'{printable(body)}'" if kind == TEXT_LINE else describe(kind, body)
        self._running.logger.debug("%s: %s %s", self._name, direction, words)
