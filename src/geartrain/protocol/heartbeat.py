"""Tells from what a connection owes and has received whether the job server behind it is still there."""

from __future__ import annotations

import enum

__all__ = ["BEATS", "Heartbeat", "Verdict"]

BEATS = 4  # times in one interval that `beat` is to be called; it tells the end of a connection late by one at most


class Verdict(enum.Enum):
    """What :meth:`Heartbeat.beat` found."""

    ALIVE = "alive"
    SILENT = "silent"  # ask the job server something that it has to answer
    LOST = "lost"  # it owes an answer for longer than the interval, or nothing came since it was asked something


class Heartbeat:
    """
    Watches one connection.

    Args:
        interval: Seconds that an answer may be owed, and that a connection which owes none may be silent before it is
            to be asked something. A job server may ignore the question, so whatever it sends afterwards will do.
        now: The time at which it was connected, in seconds of any clock that only goes forward.
    """

    __slots__ = ("_asked", "_delivered", "_heard", "_heard_at", "_interval", "_owed", "_owed_since", "_to_deliver")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._heard: object = None
        self._heard_at = now
        self._asked = False  # since something was heard
        self._owed: object = None
        self._owed_since = now
        self._to_deliver = 0  # bytes that were queued when the present debt was first seen: the question is among them
        self._delivered = 0  # of these, what was taken from us

    def beat(self, now: float, *, owed: object, heard: object, queued: int = 0, taken: int = 0) -> Verdict:
        """
        Judge the connection as it is now.

        Args:
            now: The present time.
            owed: ``None`` if no reply is owed that every job server sends, else anything that stays equal for as long
                as the oldest of them is the same and nothing shows that it is coming, such as bytes of a long packet.
            heard: Anything that changes with what is received.
            queued: Bytes that were ever to be sent.
            taken: Bytes of these that the system has taken. As long as the question itself is on its way out no answer
                can be owed for too long; what is sent after it shows nothing, a dead wire takes that too.
        """
        if heard != self._heard:
            self._heard, self._heard_at, self._asked = heard, now, False
        if owed is None and self._asked:
            owed = Verdict.SILENT  # the answer to what was asked then
        if owed is None or owed != self._owed:
            self._owed, self._owed_since, self._to_deliver = owed, now, queued
        delivered = min(taken, self._to_deliver)
        if delivered != self._delivered:
            self._delivered, self._owed_since = delivered, now
        if owed is None:
            self._asked = now - self._heard_at >= self._interval
            return Verdict.SILENT if self._asked else Verdict.ALIVE
        return Verdict.LOST if now - self._owed_since >= self._interval else Verdict.ALIVE
