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
from geartrain.protocol.decoder import TEXT_LINE
from geartrain.protocol.packets import describe
from geartrain.protocol.server import dispatch

if TYPE_CHECKING:
    from geartrain.protocol.server.broker import Broker
    from geartrain.protocol.server.peer import Peer

__all__ = [
    "DEFAULT_MAX_BUFFER_SIZE",
    "DEFAULT_MAX_CONNECTIONS",
    "Limits",
    "PeerBridge",
    "PeerConnection",
    "ServerState",
    "connection_limit",
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


def connection_limit(max_connections: int) -> int:
    """Return how many connections there may be, so that file descriptors are left for all else."""
    # Without one, a connection can be neither accepted nor refused: event loops let all wait for a second. And they
    # accept some hundreds before one that has to give way is closed.
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return max_connections
    return min(max_connections, max(descriptors - _SPARE, descriptors // 2))


class ServerState:
    """
    What a job server has between start and close: the broker, its connections, and the timer for what is due.

    Args:
        broker: Does what peers ask for.
        binding: The event loop, its thread and its process.
        epoch: The Unix time at which the loop's clock stood at 0.
        limits: What all connections share.
        logger: Told who comes and goes, and each packet.

    Attributes:
        bridges: The connections whose peers the broker knows.
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
        self.bridges: dict[Peer, PeerBridge] = {}
        self.open: dict[PeerBridge, None] = {}
        self.silent: dict[PeerBridge, None] = {}
        self.closing: dict[PeerBridge, None] = {}
        self.closed: bool = False
        self._epoch = epoch
        self._traffic = 0  # bytes that came or went since all that the connections hold was last counted
        self._allowance = limits.buffer_size  # may move before it is counted again
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._continuing = False  # something is left to do in the next turn of the loop

    @property
    def now(self) -> float:
        """The present time, as the broker wants it."""
        return self.loop.time() + self._epoch

    def flush_broker(self) -> None:
        """Do what is to be done after each call of the broker: send, close, and set the timer."""
        if self.closed:
            return
        broker = self.broker
        self._enforce_buffer_limit()
        left = _MAX_DELIVERIES
        while ready := broker.take_ready(left):
            left -= len(ready)
            for peer in ready:
                if peer in self.bridges:  # it may have gone by what another one did
                    self.bridges[peer].deliver(peer)
                    self._enforce_buffer_limit()
        if (broker.unfinished_work or not left) and not self._continuing:
            self._continuing = True
            self.loop.call_soon(self._continue, context=Context())
        deadline = broker.next_deadline
        if deadline != self._deadline:
            self._set_timer(deadline)

    def _continue(self) -> None:
        self._continuing = False
        if not self.closed and self.broker.unfinished_work:
            self.broker.continue_work(self.now)
        self.flush_broker()

    def admit(self, bridge: PeerBridge) -> bool:
        """Take one more, if need be in the place of one that is closing anyway, or has never asked for anything."""
        self.open[bridge] = None
        if self.closed:  # it was accepted just before the port was closed
            return False
        if len(self.bridges) + len(self.closing) >= self.limits.connections:
            if self.closing:
                next(iter(self.closing)).evict("it has not read the last answers, and others want its place")
            elif self.silent:
                next(iter(self.silent)).evict("it has sent no whole request, and others want its place")
            else:
                self.logger.info("refused a connection: %d are open, and all are used", len(self.bridges))
                return False
        return True

    def add_traffic(self, size: int) -> None:
        """Note that so many bytes came or went."""
        self._traffic += size

    def _enforce_buffer_limit(self) -> None:
        """Cut off those connections that hold most, if all together hold too much."""
        # To count what they hold takes a while with many. It cannot have grown by more than what was moved.
        if self._traffic < self._allowance:
            return
        sizes = {bridge: bridge.buffered for bridge in (*self.bridges.values(), *self.closing)}
        total, limit = sum(sizes.values()), self.limits.buffer_size
        for bridge in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= limit - limit // 8:
                break
            total -= sizes[bridge]
            bridge.evict(f"it held {sizes[bridge]} of the {limit} bytes that all connections together may hold")
        self._traffic, self._allowance = 0, limit - total

    def refuse(self, host: str, port: int, error: OSError) -> None:
        """Hear of a peer with which there was no agreement on TLS."""
        self.logger.info("%s: refused: %s", Address(host, port), error)

    def close(self) -> None:
        """Close all connections, the last ones in later turns of the loop, and process nothing more."""
        self.closed = True
        self._set_timer(None)
        self._close_some(list(self.open))

    def _close_some(self, bridges: list[PeerBridge]) -> None:
        for bridge in bridges[-_MAX_CLOSES:]:
            bridge.connection.close()
            bridge.connection.abort()  # a peer that does not read, or does not answer the end of TLS, would hold it up
        del bridges[-_MAX_CLOSES:]
        if bridges:
            self.loop.call_soon(self._close_some, bridges, context=Context())

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
        self.flush_broker()


class PeerConnection(Connection):
    """A connection of a job server."""

    def __init__(self, state: ServerState) -> None:
        self._bridge = PeerBridge(state, self)
        super().__init__(lambda _: self._bridge)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # With TLS this is when the handshake has succeeded.
        super().connection_made(transport)
        self._bridge.on_connected()

    def eof_received(self) -> None:  # noqa: D102
        # Whoever has nothing more to ask may still read the answers. After this the transport writes what it was
        # given and closes.
        self.flush()


class PeerBridge:
    """Between one connection and its peer in the broker."""

    def __init__(self, state: ServerState, connection: Connection) -> None:
        self.connection = connection
        self._state = state
        self._peer: Peer | None = None
        self._name = ""

    def on_connected(self) -> None:
        """Introduce the new peer to the broker."""
        state, (host, port) = self._state, self.connection.peer
        sock = self.connection.socket
        number = sock.fileno() if sock is not None else len(state.open) + 1
        self._name = str(Address(host, port))
        if not state.admit(self):
            self.connection.abort()
            return
        self._peer = state.broker.add_peer(host, number)
        state.bridges[self._peer] = self
        state.silent[self] = None
        state.logger.info("%s: connected", self._name)

    def data_received(self, data: bytes) -> None:
        """Give the broker what came."""
        peer, state = self._peer, self._state
        if peer is None or state.closed:
            return
        peer.trace = self._trace if state.logger.isEnabledFor(logging.DEBUG) else None
        state.add_traffic(len(data))
        dispatch.receive(state.broker, peer, data, state.now)
        if self in state.silent and self.connection.bytes_received > peer.decoder.held:
            del state.silent[self]
        state.flush_broker()
        if peer.pending_requests:
            # It has asked for much, and gets it little by little; until then it can ask for nothing more.
            self.connection.pause_reading()
            state.loop.call_soon(self._continue_requests, context=Context())
        elif not self.connection.writable:
            self.connection.pause_reading()

    def writing_resumed(self) -> None:
        """Go on with a peer that reads again."""
        self._continue_requests()

    def connection_lost(self, error: Exception | None) -> None:
        """Take the peer from the broker."""
        self._state.logger.info("%s: disconnected%s", self._name, f" by {error!r}" if error else "")
        del self._state.open[self]
        if not self._state.closed:
            self._remove_peer()
            self._state.flush_broker()

    @property
    def buffered(self) -> int:
        """Bytes that are held for this connection."""
        peer = self._peer
        return self.connection.unsent + (peer.decoder.held + peer.pending_size if peer is not None else 0)

    def evict(self, why: str) -> None:
        """Close the connection at once."""
        self._state.logger.info("%s: cut off: %s", self._name, why)
        self._remove_peer()
        self.connection.abort()

    def deliver(self, peer: Peer) -> None:
        """Send what the broker has for this peer, and close the connection if the peer has failed."""
        connection = self.connection
        max_backlog = self._state.limits.backlog
        self._state.add_traffic(peer.outgoing_size)
        short = peer.outgoing_size < _JOIN_LIMIT
        pieces = peer.take_outgoing()
        if short:
            connection.send(b"".join(pieces))
        else:
            for piece in pieces:
                connection.send(piece)
        if not connection.writable and connection.unsent > max_backlog:
            peer.fail(f"a peer let more than {max_backlog} bytes pile up unread")
        if peer.failure is not None:
            self._state.logger.info("%s: closing the connection: %s", self._name, peer.failure)
            self._remove_peer()
            if connection.writable:
                self._state.closing[self] = None
                connection.close()
            else:
                connection.abort()

    def _remove_peer(self) -> None:
        self._state.closing.pop(self, None)
        peer, self._peer = self._peer, None
        if peer is not None:
            del self._state.bridges[peer]
            self._state.silent.pop(self, None)
            self._state.broker.remove_peer(peer, self._state.now)

    def _continue_requests(self) -> None:
        peer, state = self._peer, self._state
        if peer is None or state.closed or not self.connection.writable:
            return
        if peer.pending_requests:
            dispatch.resume(state.broker, peer, state.now)
            state.flush_broker()
        if peer.pending_requests:
            state.loop.call_soon(self._continue_requests, context=Context())
        elif self.connection.writable:
            self.connection.resume_reading()

    def _trace(self, peer: Peer, direction: str, kind: int, body: bytes) -> None:
        words = f"'{printable(body)}'" if kind == TEXT_LINE else describe(kind, body)
        self._state.logger.debug("%s: %s %s", self._name, direction, words)
