"""One connection of a client, from connect to close: bytes to and from the core, and its heartbeat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.heartbeat import BEATS, Heartbeat, Verdict
from geartrain.protocol.packets import PacketType, describe

if TYPE_CHECKING:
    from geartrain.client.query import Query
    from geartrain.client.runtime import ClientRuntime
    from geartrain.connection import Connection

__all__ = ["ClientSession", "SessionListener"]

_MAX_PROBES: Final = 10_000  # silent jobs probed in half an interval; if there are more, the others follow later
_MAX_OPEN_PROBES: Final = 100  # of these, without a reply at a time
_ECHO: Final = b"geartrain"


class _Probe:
    """A request whose reply does not matter: a heartbeat, or an option that not all job servers support."""

    def __init__(self, asked: bytes, expects: PacketType) -> None:
        self.asked = asked
        self.expects = expects

    def on_reply(self, arguments: list[bytes]) -> None:
        """Ignore the reply."""

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Ignore the refusal."""

    def on_ignored(self) -> None:
        """Ignore that there will be no reply."""


class _Ping(NamedTuple):
    """An ECHO_REQ of the user's, when it was sent, and how much had been received then."""

    query: Query
    sent_at: float
    bytes_received: int


class SessionListener(Protocol):
    """Notified of what happens to a session."""

    def advance(self) -> None:
        """Called when the connection has room again."""

    def on_first_bytes(self, session: ClientSession) -> None:
        """Called when the job server has sent something for the first time."""

    def on_session_lost(self, session: ClientSession, error: Exception | None) -> None:
        """Called once when the connection is lost, with the error if there is one."""


class ClientSession:
    """
    One connection to a job server. A new connection is a new session, so nothing is carried over from an old one.

    Args:
        connection: The connection.
        server: The job server's address, as users read it.
        runtime: What the parts of the client share.
        listener: Notified of what happens.

    Attributes:
        protocol: The core, which knows what was sent and has not ended.
        connected_since: Seconds since the epoch.
        has_received: The job server has sent something.
        is_closed: Nothing more is sent, and what arrives is ignored.
        error: By which the connection was lost.
        is_disconnected: The client was disconnected: what is outstanding ends by that, not by the lost connection.
    """

    def __init__(self, connection: Connection, server: str, runtime: ClientRuntime, listener: SessionListener) -> None:
        config = runtime.config
        self.connection = connection
        self.connected_since: float = time.time()
        self.has_received: bool = False
        self.is_closed: bool = False
        self.error: Exception | None = None
        self.is_disconnected: bool = False
        self._server = server
        self._listener = listener
        self._loop = runtime.loop
        self._logger = runtime.logger
        self._pause_count = 0  # consumers of updates that have to catch up
        self._interval = config.heartbeat
        self._heartbeat: Heartbeat | None = None
        self._heartbeat_count = 0
        self._packet_begins_at = 0  # where the packet began that was arriving at the last check
        self._pings: deque[_Ping] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.protocol: ClientProtocol = ClientProtocol(
            connection.send, connection.flush_soon, max_size=config.max_packet_size
        )
        connection.before_flush = self.protocol.write_put_off
        self._set_trace()
        if config.exceptions:
            # Per connection; a server that does not know the option sends WORK_FAIL instead of WORK_EXCEPTION.
            self.protocol.send_query(_Probe(b"exceptions", PacketType.OPTION_RES), PacketType.OPTION_REQ)

    def start_heartbeat(self) -> None:
        """Check at intervals whether the job server is still there, until the connection is closed."""
        if self._interval is not None:
            self._heartbeat = Heartbeat(self._interval, self._loop.time())
            self._set_timer(self._interval)

    def _set_timer(self, interval: float) -> None:
        self._timer = self._loop.call_later(interval / BEATS, self._on_heartbeat, context=Context())

    def send_query(self, query: Query) -> None:
        """Send a request with a direct reply."""
        self.protocol.send_query(query, query.kind)
        if query.kind is PacketType.ECHO_REQ and self._interval is not None:
            self._pings.append(_Ping(query, self._loop.time(), self.connection.bytes_received))

    def pause_reading(self) -> None:
        """Stop reading; each call needs one of :meth:`resume_reading`."""
        self._pause_count += 1
        self.connection.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless another consumer has to catch up."""
        self._pause_count -= 1
        if not self._pause_count and not self.is_closed:
            self.connection.resume_reading()

    def fail(self, error: Exception) -> None:
        """Abort the connection, so that nothing more is sent over it."""
        self.connection.abort(error)
        self.connection_lost(error)

    def close(self) -> None:
        """Stop the heartbeat and ignore the connection from now on."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Connection callbacks (geartrain.connection.Receiver).

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the job server."""
        if self.is_closed:
            return
        if not self.has_received:
            self.has_received = True
            self._listener.on_first_bytes(self)
        self._set_trace()
        self.protocol.receive_data(data)
        if (failure := self.protocol.failure) is not None:
            self.fail(failure)

    def writing_resumed(self) -> None:
        """Send what had to wait."""
        self._listener.advance()

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the loss of the connection."""
        if not self.is_closed:
            self.close()
            self.error = error
            self._listener.on_session_lost(self, error)

    # Internals.

    def _set_trace(self) -> None:
        self.protocol.trace = self._trace if self._logger.isEnabledFor(logging.DEBUG) else None

    def _trace(self, direction: str, kind: int, body: bytes) -> None:
        self._logger.debug("%s %s %s", self._server, direction, describe(kind, body))

    def _on_heartbeat(self) -> None:
        self._timer = None
        self.connection.flush()  # what is deferred counts as queued
        heartbeat, interval, protocol = self._heartbeat, self._interval, self.protocol
        if heartbeat is None or interval is None:
            return
        now = self._loop.time()
        connection = self.connection
        # A packet that has been arriving since the last check may be the reply, or precede it; other traffic says
        # nothing about the reply. And while we do not read, no reply can arrive.
        begins_at = connection.bytes_received - protocol.arrived
        arriving = protocol.progress if begins_at == self._packet_begins_at else 0
        self._packet_begins_at = begins_at
        owed = protocol.owed
        verdict = heartbeat.beat(
            now,
            owed=None if owed is None else now if self._pause_count else (owed, arriving),
            heard=now if self._pause_count else connection.bytes_received,
            queued=connection.bytes_queued,
            taken=connection.bytes_taken,
        )
        if verdict is Verdict.LOST:
            self.fail(TimeoutError(f"{self._server} did not reply within {interval:g} s"))
            return
        self._heartbeat_count += 1
        if protocol.idle:
            protocol.stop_probing()
        elif self._heartbeat_count % (BEATS // 2) == 0:
            protocol.probe_stale_jobs(max_probes=_MAX_PROBES, max_open=_MAX_OPEN_PROBES)
        if verdict is Verdict.SILENT and protocol.owed is None:
            self._send_probe()
        self._end_ignored_pings(now - interval)
        self._set_timer(interval)

    def _send_probe(self) -> None:
        """Send a request that a job server answers at once."""
        if self.protocol.ignores_requests:
            self.protocol.send_query(_Probe(_ECHO, PacketType.STATUS_RES), PacketType.GET_STATUS)
        else:
            self.protocol.send_query(_Probe(_ECHO, PacketType.ECHO_RES), PacketType.ECHO_REQ)

    def _end_ignored_pings(self, sent_by: float) -> None:
        """End those sent before this time that have no reply although the job server has sent something since."""
        received = self.connection.bytes_received
        while self._pings:
            query, sent_at, received_then = self._pings[0]
            if not query.done():
                if sent_at > sent_by or received_then == received:
                    return
                query.on_ignored()
            self._pings.popleft()
