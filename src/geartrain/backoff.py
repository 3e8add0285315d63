"""Exponential back-off with jitter, so that many peers do not reconnect at the same time."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FIRST", "LIMIT", "Backoff", "delay"]

FIRST = 0.1  # seconds
LIMIT = 10.0  # seconds

_MAX_DOUBLINGS = 64  # more would only produce a larger number, which `limit` caps, and overflow at 1024


def _chance() -> float:
    import random  # rarely needed, and slow to import

    return random.random()


def delay(attempt: int, *, first: float = FIRST, limit: float = LIMIT, rng: Callable[[], float] = _chance) -> float:
    """
    Return how long to wait before an attempt (seconds).

    The maximum doubles from ``first`` to ``limit``; the result is between half of it and all of it, at random.

    Args:
        attempt: The number of the attempt, from 1; anything less counts as 1.
        first: The maximum before the first attempt.
        limit: The maximum before any attempt.
        rng: Returns a random float from 0.0 up to 1.0.
    """
    longest = min(limit, first * 2.0 ** min(max(attempt - 1, 0), _MAX_DOUBLINGS))
    return longest * (1.0 + rng()) / 2.0


class Backoff:
    """
    Counts the attempts to reach one peer.

    Args:
        first: As for :func:`delay`.
        limit: As for :func:`delay`.
        rng: As for :func:`delay`.
    """

    __slots__ = ("_first", "_limit", "_rng", "attempt")

    def __init__(self, first: float = FIRST, limit: float = LIMIT, *, rng: Callable[[], float] = _chance) -> None:
        self._first = first
        self._limit = limit
        self._rng = rng
        self.attempt: int = 0

    def next(self) -> float:
        """Count one more attempt and return the seconds to wait before it."""
        self.attempt += 1
        return delay(self.attempt, first=self._first, limit=self._limit, rng=self._rng)

    def reset(self) -> None:
        """Start again from the first attempt: the peer has been reached."""
        self.attempt = 0
