"""Throttles repeated useless wake-ups of a worker."""

from __future__ import annotations

from typing import Final

__all__ = ["WakeupThrottle"]

_NORMAL: Final = 3  # useless wake-ups that are normal: all sleepers are woken for one job, and one of them gets it
_FIRST_PAUSE: Final = 0.01  # seconds, doubling
_LAST_PAUSE: Final = 0.25
_LONG_SLEEP: Final = 0.1  # seconds; a wake-up after a longer sleep is not caused by the PRE_SLEEP itself
_MAX_DOUBLINGS: Final = 16


class WakeupThrottle:
    """
    Counts the useless wake-ups of one connection, and computes how long to wait before the next grab.

    gearmand 1.1.20 answers PRE_SLEEP with NOOP and GRAB_JOB with NO_JOB, again and again, while a LOW job waits behind
    an EPOCH job. Without a pause, worker and job server would each keep a processor busy.
    """

    __slots__ = ("_slept_at", "_useless", "_woken")

    def __init__(self) -> None:
        self._useless = 0
        self._slept_at = 0.0
        self._woken = False

    def on_sleep(self, now: float) -> None:
        """Record that PRE_SLEEP was sent."""
        self._slept_at = now

    def on_wakeup(self, now: float) -> float:
        """Record NOOP, and return the time before which a grab would be useless."""
        self._woken = True
        if now - self._slept_at >= _LONG_SLEEP:
            self._useless = 0
        if self._useless < _NORMAL:
            return now
        return now + min(_FIRST_PAUSE * 2.0 ** min(self._useless - _NORMAL, _MAX_DOUBLINGS), _LAST_PAUSE)

    def on_reply(self, *, job: bool) -> None:
        """Record the reply to a grab."""
        if job:
            self._useless = 0
        elif self._woken:
            self._useless += 1
        self._woken = False
