"""The base of client, worker and admin sessions: one connection to a job server, from connect to close."""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import TypeVar, cast

from geartrain.address import Address
from geartrain.connect import connect
from geartrain.connection import Connection
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL, Heartbeat, Verdict
from geartrain.protocol.packets import describe

__all__ = ["Session", "TimedSession", "open_session"]

S = TypeVar("S", bound="Session")


class Session(ABC):
    """
    One connection to a job server. A new connection is a new session, so nothing is carried over from an old one.

    Args:
        connection: The connection.
        server: The job server's address, as users read it.
        logger: Logs packets at DEBUG.
        heartbeat: The interval of the heartbeat in seconds, ``None`` for no heartbeat.

    Attributes:
        loop: The event loop of the connection.
        has_received: The job server has sent something.
        is_closed: The connection is lost or being closed: nothing is sent over it, and what arrives is ignored.
        error: The error by which the connection was lost.
    """

    def __init__(self, connection: Connection, server: str, logger: logging.Logger, heartbeat: float | None) -> None:
        self.connection = connection
        self.server = server
        self.logger = logger
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.has_received: bool = False
        self.is_closed: bool = False
        self.error: Exception | None = None
        self.heartbeat_interval = heartbeat
        self._heartbeat: Heartbeat | None = None

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """
        Handle bytes from the job server.

        Each subclass does all of this itself, ``has_received`` included: one more call for each read is measurable.
        """

    @abstractmethod
    def writing_resumed(self) -> None:
        """Called when ``connection.writable`` is true again."""

    # Closing.

    def fail(self, error: Exception) -> None:
        """Abort the connection because of an error; :meth:`on_lost` is called before this returns."""
        self.connection.abort(error)
        self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the loss of the connection, once."""
        if not self.is_closed:
            self.close()
            self.error = error
            self.on_lost(error)

    @abstractmethod
    def on_lost(self, error: Exception | None) -> None:
        """Called once when the connection is lost, but not after :meth:`close`."""

    def close(self) -> None:
        """Ignore the connection from now on. The caller closes the connection itself."""
        self.is_closed = True

    # Heartbeat.

    def start_heartbeat(self) -> None:
        """Start measuring how long the job server has been silent, if there is a heartbeat."""
        if self.heartbeat_interval is not None:
            self._heartbeat = Heartbeat(self.heartbeat_interval, self.loop.time())

    def check_heartbeat(self, now: float, *, pending: object, received: object) -> Verdict:
        """
        Return whether the job server is still there; call it ``CHECKS_PER_INTERVAL`` times per interval.

        Args:
            now: The loop time.
            pending: As for :meth:`~geartrain.protocol.heartbeat.Heartbeat.check`.
            received: As for :meth:`~geartrain.protocol.heartbeat.Heartbeat.check`.
        """
        if self._heartbeat is None:
            return Verdict.ALIVE
        connection = self.connection
        return self._heartbeat.check(
            now,
            pending=pending,
            received=received,
            bytes_queued=connection.bytes_queued,
            bytes_written=connection.bytes_taken,
        )

    def fail_unresponsive(self) -> None:
        """Abort the connection because the job server did not reply within the interval of the heartbeat."""
        self.fail(TimeoutError(f"{self.server} did not reply within {self.heartbeat_interval:g} s"))

    # Tracing.

    def packet_trace(self) -> Callable[[str, int, bytes], None] | None:
        """Return the function that logs a packet, or ``None`` if DEBUG is not enabled."""
        return self._log_packet if self.logger.isEnabledFor(logging.DEBUG) else None

    def _log_packet(self, direction: str, kind: int, body: bytes) -> None:
        self.logger.debug("%s %s %s", self.server, direction, describe(kind, body))


class TimedSession(Session):
    """A session with a timer for its heartbeat."""

    _timer: asyncio.TimerHandle | None = None

    @property
    def has_timer(self) -> bool:
        """Whether the timer of the heartbeat is running."""
        return self._timer is not None

    def start_heartbeat(self) -> None:
        """Call :meth:`on_heartbeat` ``CHECKS_PER_INTERVAL`` times per interval until closed if there is a heartbeat."""
        super().start_heartbeat()
        if self.heartbeat_interval is not None and not self.is_closed:
            self._start_timer(self.heartbeat_interval)

    @abstractmethod
    def on_heartbeat(self, now: float, interval: float) -> None:
        """Called ``CHECKS_PER_INTERVAL`` times per interval."""

    def close(self) -> None:
        """Stop the heartbeat and ignore the connection from now on."""
        super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, interval: float) -> None:
        self._timer = self.loop.call_later(interval / CHECKS_PER_INTERVAL, self._on_timer, interval, context=Context())

    def _on_timer(self, interval: float) -> None:
        self._timer = None
        self.on_heartbeat(self.loop.time(), interval)
        if not self.is_closed:
            self._start_timer(interval)


async def open_session(
    address: Address,
    create_session: Callable[[Connection], S],
    *,
    timeout: float | None,
    tls: ssl.SSLContext | None,
    heartbeat: float | None,
) -> S:
    """
    Connect to a job server and return the session of the connection.

    The session may be closed by then: a job server may hang up, or violate the protocol, immediately.

    Args:
        address: The job server.
        create_session: Called with each connection that is attempted.
        timeout: The timeout of the attempt in seconds, as for :func:`~geartrain.connect.connect`.
        tls: Use TLS with this context, as for :func:`~geartrain.connect.connect`.
        heartbeat: The interval of TCP keep-alive, as for :func:`~geartrain.connect.connect`.

    Raises:
        OSError: If no address of the host could be reached.
        UnicodeError: If the host is not a valid name.
    """
    connection = await connect(address, create_session, timeout=timeout, tls=tls, heartbeat=heartbeat)
    return cast(S, connection.receiver)
