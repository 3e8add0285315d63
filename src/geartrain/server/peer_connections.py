"""The connections of a job server, and the limits on their number and their buffers."""

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

_JOIN_LIMIT: Final = 64 * 1024  # bytes; shorter output is joined before it is written
_MAX_PEERS_PER_TURN: Final = 200  # one write takes about 10 us
_MAX_CLOSED_PER_TURN: Final = 200
_SPARE_DESCRIPTORS: Final = 512  # for everything but connections
_MAX_TIMER_DELAY: Final = 3600.0  # seconds; event loops differ in how far ahead a timer may be set


class Limits(NamedTuple):
    """
    The resources that peers may use.

    Attributes:
        connections: The maximum number of connections.
        buffer_size: The maximum size of the buffers of all connections together, in bytes.
        backlog: The maximum size of the unread output of one peer, in bytes.
    """

    connections: int
    buffer_size: int
    backlog: int


def connection_limit(max_connections: int) -> int:
    """Return the maximum number of connections: at most ``max_connections``, and some file descriptors stay free."""
    # Without a free descriptor, a connection can be neither accepted nor refused: event loops make all connections wait
    # for a second. They also accept hundreds of connections before an evicted one is closed.
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return max_connections
    return min(max_connections, max(descriptors - _SPARE_DESCRIPTORS, descriptors // 2))


class ServerState:
    """
    The state of a job server between start and close: its broker, its connections, and its timer.

    Args:
        broker: Runs the requests of peers.
        binding: The event loop, its thread and its process.
        epoch: The Unix time at which the loop's clock was 0.
        limits: Limits on connections and buffers.
        logger: Logs connections, disconnections and packets.

    Attributes:
        bridges: The connections of the broker's peers.
        open_bridges: All connections that are not closed.
        silent_bridges: The connections that have not sent a complete request, oldest first.
        closing_bridges: The connections that close when their failed peer has read the rest of its output, oldest
            first.
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
        self.open_bridges: dict[PeerBridge, None] = {}
        self.silent_bridges: dict[PeerBridge, None] = {}
        self.closing_bridges: dict[PeerBridge, None] = {}
        self.is_closed: bool = False
        self._epoch = epoch
        self._traffic = 0  # bytes received and sent since the buffers were last measured
        self._allowance = limits.buffer_size  # the traffic after which they are measured again
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._continue_scheduled = False

    @property
    def now(self) -> float:
        """The current Unix time; it follows the loop's clock."""
        return self.loop.time() + self._epoch

    def flush_broker(self) -> None:
        """Send output, close failed connections and set the timer. Called after each use of the broker."""
        if self.is_closed:
            return
        broker = self.broker
        self._enforce_buffer_limit()
        left = _MAX_PEERS_PER_TURN
        while ready := broker.take_ready(left):
            left -= len(ready)
            for peer in ready:
                if peer in self.bridges:  # sending to another peer may have evicted this one
                    self.bridges[peer].send_output(peer)
                    self._enforce_buffer_limit()
        if (broker.unfinished_work or not left) and not self._continue_scheduled:
            self._continue_scheduled = True
            self.loop.call_soon(self._continue, context=Context())
        deadline = broker.next_deadline
        if deadline != self._deadline:
            self._set_timer(deadline)

    def _continue(self) -> None:
        self._continue_scheduled = False
        if not self.is_closed and self.broker.unfinished_work:
            self.broker.continue_work(self.now)
        self.flush_broker()

    def admit(self, bridge: PeerBridge) -> bool:
        """Accept a connection if the limit allows it, or if a closing or silent connection can be evicted."""
        self.open_bridges[bridge] = None
        if self.is_closed:  # accepted just before the port was closed
            return False
        if len(self.bridges) + len(self.closing_bridges) >= self.limits.connections:
            if self.closing_bridges:
                next(iter(self.closing_bridges)).evict(
                    "the connection limit is reached, and it has not read its last responses"
                )
            elif self.silent_bridges:
                next(iter(self.silent_bridges)).evict(
                    "the connection limit is reached, and it has not sent a complete request"
                )
            else:
                self.logger.info("refused a connection: all %d connections are in use", len(self.bridges))
                return False
        return True

    def add_traffic(self, size: int) -> None:
        """Count bytes received or sent."""
        self._traffic += size

    def _enforce_buffer_limit(self) -> None:
        """Evict the connections with the largest buffers if all buffers together are too large."""
        # Measuring many buffers takes a while. They cannot have grown by more than the traffic.
        if self._traffic < self._allowance:
            return
        sizes = {bridge: bridge.buffered_size for bridge in (*self.bridges.values(), *self.closing_bridges)}
        total, limit = sum(sizes.values()), self.limits.buffer_size
        for bridge in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= limit - limit // 8:
                break
            total -= sizes[bridge]
            bridge.evict(f"it used {sizes[bridge]} of the {limit} bytes allowed for all connections together")
        self._traffic, self._allowance = 0, limit - total

    def refuse(self, host: str, port: int, error: OSError) -> None:
        """Log a failed TLS handshake."""
        self.logger.info("%s: refused: %s", Address(host, port), error)

    def close(self) -> None:
        """Close all connections, some of them in later turns of the loop, and stop processing requests."""
        self.is_closed = True
        self._set_timer(None)
        self._close_some(list(self.open_bridges))

    def _close_some(self, bridges: list[PeerBridge]) -> None:
        for bridge in bridges[-_MAX_CLOSED_PER_TURN:]:
            bridge.connection.close()
            bridge.connection.abort()  # do not wait for a peer that does not read or does not reply to the TLS shutdown
        del bridges[-_MAX_CLOSED_PER_TURN:]
        if bridges:
            self.loop.call_soon(self._close_some, bridges, context=Context())

    async def wait_closed(self) -> None:
        """Wait until all sockets are closed."""
        while self.open_bridges:
            await next(iter(self.open_bridges)).connection.wait_closed()

    def _set_timer(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._deadline = None, deadline
        if deadline is not None:
            when = min(deadline - self._epoch, self.loop.time() + _MAX_TIMER_DELAY)
            self._timer = self.loop.call_at(when, self._tick, context=Context())

    def _tick(self) -> None:
        self._timer = self._deadline = None
        self.broker.tick(self.now)
        self.flush_broker()


class PeerConnection(Connection):
    """The server side of one connection."""

    def __init__(self, state: ServerState) -> None:
        self._bridge = PeerBridge(state, self)
        super().__init__(lambda _: self._bridge)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # With TLS, this is called after the handshake.
        super().connection_made(transport)
        self._bridge.on_connected()

    def eof_received(self) -> None:  # noqa: D102
        # A peer that has closed its sending side may still read its responses: the transport writes them, then closes.
        self.flush()


class PeerBridge:
    """Connects one connection to its peer in the broker."""

    def __init__(self, state: ServerState, connection: Connection) -> None:
        self.connection = connection
        self._state = state
        self._peer: Peer | None = None
        self._name = ""

    def on_connected(self) -> None:
        """Add a peer to the broker, unless the connection is refused."""
        state, (host, port) = self._state, self.connection.peer
        sock = self.connection.socket
        number = sock.fileno() if sock is not None else len(state.open_bridges) + 1
        self._name = str(Address(host, port))
        if not state.admit(self):
            self.connection.abort()
            return
        self._peer = state.broker.add_peer(host, number)
        state.bridges[self._peer] = self
        state.silent_bridges[self] = None
        state.logger.info("%s: connected", self._name)

    def data_received(self, data: bytes) -> None:
        """Run the requests in the bytes received."""
        peer, state = self._peer, self._state
        if peer is None or state.is_closed:
            return
        peer.trace = self._trace if state.logger.isEnabledFor(logging.DEBUG) else None
        state.add_traffic(len(data))
        dispatch.receive(state.broker, peer, data, state.now)
        if self in state.silent_bridges and self.connection.bytes_received > peer.decoder.held:
            del state.silent_bridges[self]
        state.flush_broker()
        if peer.pending_requests:
            # Stop reading until the pending requests are done, one part in each turn.
            self.connection.pause_reading()
            state.loop.call_soon(self._continue_requests, context=Context())
        elif not self.connection.writable:
            self.connection.pause_reading()

    def writing_resumed(self) -> None:
        """Continue with the requests of a peer that reads again."""
        self._continue_requests()

    def connection_lost(self, error: Exception | None) -> None:
        """Remove the peer from the broker."""
        self._state.logger.info("%s: disconnected%s", self._name, f" by {error!r}" if error else "")
        del self._state.open_bridges[self]
        if not self._state.is_closed:
            self._remove_peer()
            self._state.flush_broker()

    @property
    def buffered_size(self) -> int:
        """The size of everything buffered for this connection, in bytes."""
        peer = self._peer
        return self.connection.unsent + (peer.decoder.held + peer.pending_size if peer is not None else 0)

    def evict(self, reason: str) -> None:
        """Close the connection immediately."""
        self._state.logger.info("%s: evicted: %s", self._name, reason)
        self._remove_peer()
        self.connection.abort()

    def send_output(self, peer: Peer) -> None:
        """Send the output of a peer, and close the connection if the peer has failed."""
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
            peer.fail(f"the peer left more than {max_backlog} bytes unread")
        if peer.failure is not None:
            self._state.logger.info("%s: closing the connection: %s", self._name, peer.failure)
            self._remove_peer()
            if connection.writable:
                self._state.closing_bridges[self] = None
                connection.close()
            else:
                connection.abort()

    def _remove_peer(self) -> None:
        self._state.closing_bridges.pop(self, None)
        peer, self._peer = self._peer, None
        if peer is not None:
            del self._state.bridges[peer]
            self._state.silent_bridges.pop(self, None)
            self._state.broker.remove_peer(peer, self._state.now)

    def _continue_requests(self) -> None:
        peer, state = self._peer, self._state
        if peer is None or state.is_closed or not self.connection.writable:
            return
        if peer.pending_requests:
            dispatch.resume(state.broker, peer, state.now)
            state.flush_broker()
        if peer.pending_requests:
            state.loop.call_soon(self._continue_requests, context=Context())
        elif self.connection.writable:
            self.connection.resume_reading()

    def _trace(self, peer: Peer, direction: str, kind: int, body: bytes) -> None:
        text = f"'{printable(body)}'" if kind == TEXT_LINE else describe(kind, body)
        self._state.logger.debug("%s: %s %s", self._name, direction, text)
