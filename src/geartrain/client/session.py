"""One connection of a client, from connect to close: bytes to and from the core, and its heartbeat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.heartbeat import BEATS, Heartbeat, Verdict
from geartrain.protocol.packets import PacketType, describe

if TYPE_CHECKING:
    from geartrain.client.link import Link
    from geartrain.client.questions import Reply
    from geartrain.connection import Connection

__all__ = ["Session"]

# Silent jobs asked after in half an interval. Where more are silent each has its turn later.
_INQUIRIES = 10_000
_INQUIRIES_AT_ONCE = 100  # of these, without an answer at a time


class _Probe:
    """Wants an answer, whatever it is, or none: to a heartbeat, or to an option that not all job servers know."""

    def __init__(self, asked: bytes, expects: PacketType) -> None:
        self.asked = asked
        self.expects = expects

    def _answered(self, arguments: list[bytes]) -> None:
        pass

    def _refused(self, code: bytes, text: bytes) -> None:
        pass

    def _ignored(self) -> None:
        pass


class _Ping(NamedTuple):
    """An ECHO_REQ of the user's, when it was asked, and what had been received then."""

    reply: Reply
    asked_at: float
    bytes_received: int


class Session:
    """The life of one connection; a new connection is a new session, so nothing is carried over from an old one."""

    _ECHO: ClassVar = b"geartrain"

    def __init__(self, connection: Connection, link: Link) -> None:
        options = link.pool.options
        self.connection = connection
        self.connected_since: float = time.time()
        self.closed: bool = False
        self.heard: bool = False  # anything from the job server
        self.error: Exception | None = None  # by which it was lost
        self.disconnected: bool = False  # by the client's owner, who wants all that is owed to end
        self._link = link
        self._loop = link.pool.loop
        self._logger = link.pool.logger
        self._pauses = 0  # consumers of updates that have to catch up
        self._interval = options.heartbeat
        self._heartbeat: Heartbeat | None = None
        self._beats = 0
        self._packet_begins_at = 0  # where the packet that was arriving at the last beat began
        self._pings: deque[_Ping] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.protocol: ClientProtocol = ClientProtocol(
            connection.send, connection.flush_soon, max_size=options.max_packet_size
        )
        connection.before_flush = self.protocol.write_put_off
        self._set_trace()
        if options.exceptions:
            # Per connection; a server that does not know the option sends WORK_FAIL instead of WORK_EXCEPTION.
            self.protocol.send_query(_Probe(b"exceptions", PacketType.OPTION_RES), PacketType.OPTION_REQ)

    def watch(self) -> None:
        """Begin to watch whether the job server is still there, until the connection is closed."""
        if self._interval is not None:
            self._heartbeat = Heartbeat(self._interval, self._loop.time())
            self._set_timer(self._interval)

    def _set_timer(self, interval: float) -> None:
        self._timer = self._loop.call_later(interval / BEATS, self._beat, context=Context())

    def ask(self, reply: Reply) -> None:
        """Ask a question."""
        self.protocol.send_query(reply, reply.kind)
        if reply.kind is PacketType.ECHO_REQ and self._interval is not None:
            self._pings.append(_Ping(reply, self._loop.time(), self.connection.bytes_received))

    def pause_reading(self) -> None:
        """Hold the job server back; each call needs one of :meth:`resume_reading`."""
        self._pauses += 1
        self.connection.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless somebody else has to catch up."""
        self._pauses -= 1
        if not self._pauses and not self.closed:
            self.connection.resume_reading()

    def fail(self, error: Exception) -> None:
        """Give the connection up, at once, so that nothing more is sent over it."""
        self.connection.abort(error)
        self.connection_lost(error)

    def close(self) -> None:
        """Stop the heart; the connection is done with."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the connection tells.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the job server."""
        if self.closed:
            return
        if not self.heard:
            self.heard = True
            self._link.heard(self)
        self._set_trace()
        self.protocol.receive_data(data)
        if (failure := self.protocol.failure) is not None:
            self.fail(failure)

    def writing_resumed(self) -> None:
        """Send what had to wait."""
        self._link.attend()

    def connection_lost(self, error: Exception | None) -> None:
        """End what was outstanding."""
        if not self.closed:
            self.close()
            self.error = error
            self._link.session_lost(self, error)

    # Inside.

    def _set_trace(self) -> None:
        self.protocol.trace = self._trace if self._logger.isEnabledFor(logging.DEBUG) else None

    def _trace(self, direction: str, kind: int, body: bytes) -> None:
        self._logger.debug("%s %s %s", self._link.name, direction, describe(kind, body))

    def _beat(self) -> None:
        self._timer = None
        self.connection.flush()  # what is put off counts for what is to be delivered
        heartbeat, interval, protocol = self._heartbeat, self._interval, self.protocol
        if heartbeat is None or interval is None:
            return
        now = self._loop.time()
        connection = self.connection
        # One packet that has been arriving since the last beat may be what is owed, or stand in front of it. Whether
        # others come and go says nothing of that. And as long as we do not read, no answer can come.
        begins_at = connection.bytes_received - protocol.arrived
        arriving = protocol.progress if begins_at == self._packet_begins_at else 0
        self._packet_begins_at = begins_at
        owed = protocol.owed
        verdict = heartbeat.beat(
            now,
            owed=None if owed is None else now if self._pauses else (owed, arriving),
            heard=now if self._pauses else connection.bytes_received,
            queued=connection.bytes_queued,
            taken=connection.bytes_taken,
        )
        if verdict is Verdict.LOST:
            self.fail(TimeoutError(f"{self._link.name} has owed an answer for {interval:g} s"))
            return
        self._beats += 1
        if protocol.idle:
            protocol.stop_asking()
        elif self._beats % (BEATS // 2) == 0:
            protocol.ask_after_silent_jobs(at_most=_INQUIRIES, at_once=_INQUIRIES_AT_ONCE)
        if verdict is Verdict.SILENT and protocol.owed is None:
            self._send_probe()
        self._end_ignored_pings(now - interval)
        self._set_timer(interval)

    def _send_probe(self) -> None:
        """Ask what the job server answers at once if it is there."""
        if self.protocol.ignores_requests:
            self.protocol.send_query(_Probe(self._ECHO, PacketType.STATUS_RES), PacketType.GET_STATUS)
        else:
            self.protocol.send_query(_Probe(self._ECHO, PacketType.ECHO_RES), PacketType.ECHO_REQ)

    def _end_ignored_pings(self, asked_by: float) -> None:
        """End those that were asked so long ago although the job server is there, which the heartbeat forgives."""
        received = self.connection.bytes_received
        while self._pings:
            reply, asked_at, received_then = self._pings[0]
            if not reply.done():
                if asked_at > asked_by or received_then == received:
                    return
                reply._ignored()
            self._pings.popleft()
