"""Many deadlines in one ordered structure, so that a timeout costs a job no timer of its own."""

from __future__ import annotations

import heapq
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K")

_KEPT = 64  # empty queues that are not worth looking for: a duration that comes again needs no new one


class Deadlines(Generic[K]):
    """
    Who has to be done by when.

    Applications use few different durations, and those who have the same one are due in the order in which they were
    added: so each duration has a queue, from which one that is done in time can be taken at once, and a heap holds the
    queues. Adding and removing take constant time, about 0.2 us; durations that nobody has any more are forgotten
    when they are most of all, or their time is over.

    Args:
        on_first: Called with when ``key`` is due if nobody with this duration was there before; all that come after it
            with the same one are due later.
        on_empty: Called when the last one was removed.
    """

    __slots__ = ("_empty", "_heap", "_on_empty", "_on_first", "_queues")

    def __init__(self, on_first: Callable[[float], None], on_empty: Callable[[], None]) -> None:
        self._on_first = on_first
        self._on_empty = on_empty
        # duration -> who, and when due. A plain dict would skip all that were removed before its first one, each time.
        self._queues: dict[float, OrderedDict[K, float]] = {}
        # (when the first of a queue is due, or was before it was removed; duration): one entry a queue
        self._heap: list[tuple[float, float]] = []
        self._empty = 0  # queues in which nobody is left

    def __len__(self) -> int:
        """How many are waited for: to count them takes as long as there are durations."""
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        """Whether anybody is waited for."""
        return self._empty < len(self._queues)

    def add(self, key: K, duration: float, due: float) -> None:
        """Have ``key``, which is not here yet with this duration, done by ``due``: now and so many seconds."""
        queue = self._queues.get(duration)
        if not queue:
            queue = self._begin(duration, due)
        queue[key] = due

    def remove(self, key: K, duration: float) -> None:
        """Let ``key`` be done, if it is here."""
        queue = self._queues.get(duration)
        if queue is not None and queue.pop(key, None) is not None and not queue:
            self._end()

    def _begin(self, duration: float, due: float) -> OrderedDict[K, float]:
        """Return the queue of a duration that nobody has now."""
        queue = self._queues.get(duration)
        if queue is None:
            queue = self._queues[duration] = OrderedDict()
            heapq.heappush(self._heap, (due, duration))
        else:
            self._empty -= 1
        self._on_first(due)
        return queue

    def _end(self) -> None:
        """See to a queue from which the last one was taken."""
        self._empty += 1
        if not self:
            self._clear()
            self._on_empty()
        elif self._empty > _KEPT and self._empty * 2 > len(self._queues):
            self._forget_empty()

    def _forget_empty(self) -> None:
        # Where each job is given what is left of its caller's time, there are as many durations as jobs.
        self._queues = {duration: queue for duration, queue in self._queues.items() if queue}
        self._heap = [(next(iter(queue.values())), duration) for duration, queue in self._queues.items()]
        heapq.heapify(self._heap)
        self._empty = 0

    @property
    def next_due(self) -> float | None:
        """A time at or before which nobody is due; ``None`` where nobody is waited for."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float, at_most: int = sys.maxsize) -> list[K]:
        """Remove and return so many of those who are due, the longest due first within a duration."""
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
        """Remove all."""
        if self:
            self._clear()
            self._on_empty()

    def _clear(self) -> None:
        self._queues.clear()
        self._heap.clear()
        self._empty = 0
