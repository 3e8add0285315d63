"""Decides whether the job server behind a connection is still alive, from the replies that are pending and received."""

from __future__ import annotations

import enum

__all__ = ["CHECKS_PER_INTERVAL", "Heartbeat", "Verdict"]

CHECKS_PER_INTERVAL = 4  # calls of `check` in one interval; a lost connection is detected at most one check late


class Verdict(enum.Enum):
    """The result of :meth:`Heartbeat.check`."""

    ALIVE = "alive"
    SILENT = "silent"  # send a probe that the job server has to reply to
    LOST = "lost"  # a reply is overdue, or nothing was received since the probe


class Heartbeat:
    """
    Watches one connection.

    Args:
        interval: How long a reply may be pending, and how long a connection without a pending reply may be silent
            before it is probed (seconds). Anything received after a probe counts, as a job server may ignore the probe.
        now: The time at which the connection was opened, on any clock that does not go backwards.
    """

    __slots__ = (
        "_bytes_to_write",
        "_bytes_written",
        "_interval",
        "_is_probed",
        "_pending",
        "_pending_since",
        "_received",
        "_received_at",
    )

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._received: object = None
        self._received_at = now
        self._is_probed = False  # since something was received
        self._pending: object = None
        self._pending_since = now
        # The bytes queued when the pending reply was first seen, which include its request; and how many are written.
        self._bytes_to_write = 0
        self._bytes_written = 0

    def check(
        self, now: float, *, pending: object, received: object, bytes_queued: int = 0, bytes_written: int = 0
    ) -> Verdict:
        """
        Judge the present state of the connection.

        Args:
            now: The current time.
            pending: ``None`` if no reply is pending that every job server sends. Else any value that stays equal while
                the oldest such reply is the same and shows no progress, such as more bytes of a long packet.
            received: Any value that changes when something is received.
            bytes_queued: The bytes queued for sending since the connection was opened.
            bytes_written: How many of them the operating system has accepted. A reply cannot be overdue while its
                request is still being written. Bytes queued after the request do not count, since the operating system
                accepts them for a dead connection, too.
        """
        if received != self._received:
            self._received, self._received_at, self._is_probed = received, now, False
        if pending is None and self._is_probed:
            pending = Verdict.SILENT  # the reply to the probe
        if pending is None or pending != self._pending:
            self._pending, self._pending_since, self._bytes_to_write = pending, now, bytes_queued
        written = min(bytes_written, self._bytes_to_write)
        if written != self._bytes_written:
            self._bytes_written, self._pending_since = written, now
        if pending is None:
            self._is_probed = now - self._received_at >= self._interval
            return Verdict.SILENT if self._is_probed else Verdict.ALIVE
        return Verdict.LOST if now - self._pending_since >= self._interval else Verdict.ALIVE
