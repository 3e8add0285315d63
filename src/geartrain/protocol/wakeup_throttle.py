"""Throttles repeated useless wake-ups of a worker."""

from __future__ import annotations

from typing import Final

__all__ = ["WakeupThrottle"]

_FREE: Final = 3  # wakes in vain that are ordinary: all sleepers are woken for one job, and one of them gets it
_FIRST_PAUSE: Final = 0.01  # seconds, doubling
_LAST_PAUSE: Final = 0.25
_QUIET: Final = 0.1  # seconds of sleep after which a wake is no echo of falling asleep
_MAX_DOUBLINGS: Final = 16


class WakeupThrottle:
    """
    Counts the useless wake-ups of one connection, and computes how long to wait before the next grab.

    gearmand 1.1.20 answers PRE_SLEEP with NOOP and GRAB_JOB with NO_JOB, again and again, while a LOW job waits behind
    an EPOCH job. Without a pause, worker and job server would burn a processor each.
    """

    __slots__ = ("_in_vain", "_slept_at", "_woken")

    def __init__(self) -> None:
        self._in_vain = 0
        self._slept_at = 0.0
        self._woken = False

    def on_sleep(self, now: float) -> None:
        """Record that PRE_SLEEP was sent."""
        self._slept_at = now

    def on_wakeup(self, now: float) -> float:
        """Take note of NOOP, and return the time before which a grab would be in vain."""
        self._woken = True
        if now - self._slept_at >= _QUIET:
            self._in_vain = 0
        if self._in_vain < _FREE:
            return now
        return now + min(_FIRST_PAUSE * 2.0 ** min(self._in_vain - _FREE, _MAX_DOUBLINGS), _LAST_PAUSE)

    def on_reply(self, *, job: bool) -> None:
        """Record the reply to a grab."""
        if job:
            self._in_vain = 0
        elif self._woken:
            self._in_vain += 1
        self._woken = False
