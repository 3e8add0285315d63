"""How long to wait before trying again: exponential, with jitter, so that many peers do not come back in step."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FIRST", "LIMIT", "Backoff", "delay"]

FIRST = 0.1  # seconds
LIMIT = 10.0  # seconds

_MAX_DOUBLINGS = 64  # more would only make a larger number for `limit` to cut, and overflow at 1024


def _chance() -> float:
    import random  # few ever wait, and it takes a while to load

    return random.random()


def delay(attempt: int, *, first: float = FIRST, limit: float = LIMIT, rng: Callable[[], float] = _chance) -> float:
    """
    Return the seconds to wait before attempt number ``attempt``, counted from 1.

    The wait doubles from ``first`` to ``limit``; the upper half of it is left to chance.

    Args:
        attempt: What comes after the wait; everything below 1 is taken for 1.
        first: The longest first wait.
        limit: The longest wait of all.
        rng: Gives a float from 0.0 up to 1.0.
    """
    longest = min(limit, first * 2.0 ** min(max(attempt - 1, 0), _MAX_DOUBLINGS))
    return longest * (1.0 + rng()) / 2.0


class Backoff:
    """
    Counts the attempts for one peer.

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
        """Begin again: the peer is well."""
        self.attempt = 0
