"""One connection of a client: its protocol, heartbeat and back-pressure."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL, Verdict
from geartrain.protocol.packets import PacketType
from geartrain.session import TimedSession

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

    def __init__(self, argument: bytes, expects: PacketType) -> None:
        self.argument = argument
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


class ClientSession(TimedSession):
    """
    One connection of a client.

    Args:
        connection: The connection.
        server: The job server's address, as users read it.
        runtime: What the parts of the client share.
        listener: Notified of what happens.

    Attributes:
        protocol: The core, which knows what was sent and has not ended.
        connected_since: Seconds since the epoch.
        is_disconnected: The client was disconnected: what is outstanding ends by that, not by the lost connection.
    """

    def __init__(self, connection: Connection, server: str, runtime: ClientRuntime, listener: SessionListener) -> None:
        config = runtime.config
        super().__init__(connection, server, runtime.logger, config.heartbeat)
        self.connected_since: float = time.time()
        self.is_disconnected: bool = False
        self._listener = listener
        self._pause_count = 0  # consumers of updates that have to catch up
        self._heartbeat_count = 0
        self._packet_begins_at = 0  # where the packet began that was arriving at the last check
        self._pings: deque[_Ping] = deque()
        self.protocol: ClientProtocol = ClientProtocol(
            connection.send, connection.flush_soon, max_size=config.max_packet_size
        )
        connection.before_flush = self.protocol.flush_deferred
        self.protocol.trace = self.packet_trace()
        if config.exceptions:
            # Per connection; a server that does not know the option sends WORK_FAIL instead of WORK_EXCEPTION.
            self.protocol.send_query(_Probe(b"exceptions", PacketType.OPTION_RES), PacketType.OPTION_REQ)

    def mark_disconnected(self) -> None:
        """Let what is outstanding end because the client was disconnected."""
        self.is_disconnected = True

    def send_query(self, query: Query) -> None:
        """Send a request with a direct reply."""
        self.protocol.send_query(query, query.kind)
        if query.kind is PacketType.ECHO_REQ and self.heartbeat_interval is not None:
            self._pings.append(_Ping(query, self.loop.time(), self.connection.bytes_received))

    def pause_reading(self) -> None:
        """Stop reading; each call needs one of :meth:`resume_reading`."""
        self._pause_count += 1
        self.connection.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless another consumer has to catch up."""
        self._pause_count -= 1
        if not self._pause_count and not self.is_closed:
            self.connection.resume_reading()

    # Connection callbacks (geartrain.connection.Receiver).

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the job server."""
        if self.is_closed:
            return
        if not self.has_received:
            self.has_received = True
            self._listener.on_first_bytes(self)
        self.protocol.trace = self.packet_trace()
        self.protocol.receive_data(data)
        if (failure := self.protocol.failure) is not None:
            self.fail(failure)

    def writing_resumed(self) -> None:
        """Send what had to wait."""
        self._listener.advance()

    def on_lost(self, error: Exception | None) -> None:
        """Notify the listener."""
        self._listener.on_session_lost(self, error)

    # Heartbeat.

    def on_heartbeat(self, now: float, interval: float) -> None:
        """Check whether the job server is still there, and whether it still knows the jobs that are silent."""
        connection, protocol = self.connection, self.protocol
        connection.flush()  # what is deferred counts as queued
        # A packet that has been arriving since the last check may be the reply, or precede it; other traffic says
        # nothing about the reply. And while we do not read, no reply can arrive.
        begins_at = connection.bytes_received - protocol.arrived
        arriving = protocol.progress if begins_at == self._packet_begins_at else 0
        self._packet_begins_at = begins_at
        owed = protocol.oldest_pending
        verdict = self.check_heartbeat(
            now,
            pending=None if owed is None else now if self._pause_count else (owed, arriving),
            received=now if self._pause_count else connection.bytes_received,
        )
        if verdict is Verdict.LOST:
            self.fail_unresponsive()
            return
        self._heartbeat_count += 1
        if protocol.is_idle:
            protocol.stop_probing()
        elif self._heartbeat_count % (CHECKS_PER_INTERVAL // 2) == 0:
            protocol.probe_stale_jobs(max_probes=_MAX_PROBES, max_open=_MAX_OPEN_PROBES)
        if verdict is Verdict.SILENT and protocol.oldest_pending is None:
            self._send_probe()
        self._end_ignored_pings(now - interval)

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
