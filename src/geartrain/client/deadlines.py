"""Deadlines grouped by duration, so that a timeout does not cost a timer per job."""

from __future__ import annotations

import heapq
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K")

_KEPT = 64  # empty queues that are always kept: a duration that is used again needs no new queue


class Deadlines(Generic[K]):
    """
    A set of keys, each with a deadline.

    Applications use few different durations, and keys with the same duration are due in the order in which they were
    added. So each duration has a queue, from which a key can be removed at any time, and a heap holds the queues.
    Adding and removing take constant time, about 0.2 us. Empty queues are dropped when they are the majority, or when
    their time has come.

    Args:
        on_first: Called with the deadline of a key that is the first of its duration; later ones are due later.
        on_empty: Called when the last key was removed.
    """

    __slots__ = ("_empty", "_heap", "_on_empty", "_on_first", "_queues")

    def __init__(self, on_first: Callable[[float], None], on_empty: Callable[[], None]) -> None:
        self._on_first = on_first
        self._on_empty = on_empty
        # duration -> keys and deadlines. A plain dict would skip all removed entries before the first one, each time.
        self._queues: dict[float, OrderedDict[K, float]] = {}
        # (deadline of the first key of a queue, which may have been removed; duration), one entry per queue
        self._heap: list[tuple[float, float]] = []
        self._empty = 0  # the number of empty queues

    def __len__(self) -> int:
        """The number of keys. Counting takes time linear in the number of durations."""
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return self._empty < len(self._queues)

    def add(self, key: K, duration: float, due: float) -> None:
        """Add a key, which has no deadline of this duration yet; ``due`` is the current time plus the duration."""
        queue = self._queues.get(duration)
        if not queue:
            queue = self._begin(duration, due)
        queue[key] = due

    def remove(self, key: K, duration: float) -> None:
        """Remove a key, if it is there."""
        queue = self._queues.get(duration)
        if queue is not None and queue.pop(key, None) is not None and not queue:
            self._end()

    def _begin(self, duration: float, due: float) -> OrderedDict[K, float]:
        """Return the empty queue of a duration."""
        queue = self._queues.get(duration)
        if queue is None:
            queue = self._queues[duration] = OrderedDict()
            heapq.heappush(self._heap, (due, duration))
        else:
            self._empty -= 1
        self._on_first(due)
        return queue

    def _end(self) -> None:
        """Handle a queue that has become empty."""
        self._empty += 1
        if not self:
            self._clear()
            self._on_empty()
        elif self._empty > _KEPT and self._empty * 2 > len(self._queues):
            self._forget_empty()

    def _forget_empty(self) -> None:
        # If each job gets the rest of its caller's time, there are as many durations as jobs.
        self._queues = {duration: queue for duration, queue in self._queues.items() if queue}
        self._heap = [(next(iter(queue.values())), duration) for duration, queue in self._queues.items()]
        heapq.heapify(self._heap)
        self._empty = 0

    @property
    def next_due(self) -> float | None:
        """A time before which no key is due, or ``None`` if there is none."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float, at_most: int = sys.maxsize) -> list[K]:
        """Remove and return the keys that are due, at most ``at_most``; the oldest first within each duration."""
        expired: list[K] = []
        while self._heap and self._heap[0][0] <= now and len(expired) < at_most:
            _, duration = heapq.heappop(self._heap)
            queue = self._queues[duration]
            if not queue:
                self._empty -= 1
            due: list[K] = []
            for key, deadline in queue.items():
                if deadline > now or len(expired) + len(due) == at_most:
                    heapq.heappush(self._heap, (deadline, duration))
                    break
                due.append(key)
            for key in due:
                del queue[key]
            if not queue:
                del self._queues[duration]
            expired += due
        if not self:
            self._clear()
        return expired

    def clear(self) -> None:
        """Remove all keys."""
        if self:
            self._clear()
            self._on_empty()

    def _clear(self) -> None:
        self._queues.clear()
        self._heap.clear()
        self._empty = 0
