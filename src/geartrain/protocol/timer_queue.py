"""A priority queue of keyed timers."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["TimerQueue"]

_SPARE: Final = 64  # cancelled entries that are not worth a rebuild
_MOVES: Final = 4  # entries that each operation moves while the heap is rebuilt
_MAX_REMOVALS: Final = 1000  # cancelled entries that one operation removes from the top

KeyT = TypeVar("KeyT", bound=Hashable)
_Entry = tuple[float, int, KeyT]


class TimerQueue(Generic[KeyT]):
    """
    Keys with the times at which they are due, one time per key.

    Every operation costs O(log n) and none has long pauses: cancelled entries are removed a few at a
    time. Memory is bounded by the number of keys that are set now, not by history.
    """

    __slots__ = ("_count", "_current", "_heap", "_old")

    def __init__(self) -> None:
        self._heap: list[_Entry[KeyT]] = []
        self._old: list[_Entry[KeyT]] = []  # a heap with many cancelled entries, while the others move to the new one
        self._current: dict[KeyT, int] = {}  # the number of the entry that counts
        self._count = 0

    def __len__(self) -> int:
        return len(self._current)

    def set(self, key: KeyT, when: float) -> None:
        """Set the time at which a key is due, replacing any earlier one."""
        self._count += 1
        self._current[key] = self._count
        heapq.heappush(self._heap, (when, self._count, key))
        self._compact()

    def cancel(self, key: KeyT) -> None:
        """Remove a key, if it is set."""
        if self._current.pop(key, None) is not None:
            self._compact()

    @property
    def next(self) -> float | None:
        """When to call :meth:`take_due` next: the earliest time that is set, or a cancelled one before it."""
        for heap in (self._heap, self._old):
            removals = 0
            while heap and removals < _MAX_REMOVALS and not self._counts(heap[0]):
                heapq.heappop(heap)
                removals += 1
        heap = self._earliest()
        return heap[0][0] if heap else None

    def take_due(self, now: float, limit: int) -> list[KeyT]:
        """
        Remove keys that are due at ``now`` and return them in the order of their times.

        Looks at ``limit`` entries at most. If more are due, :attr:`next` is not after ``now``.
        """
        due: list[KeyT] = []
        for _ in range(limit):
            heap = self._earliest()
            if not heap or heap[0][0] > now:
                break
            entry = heapq.heappop(heap)
            if self._counts(entry):
                del self._current[entry[2]]
                due.append(entry[2])
        return due

    def _counts(self, entry: _Entry[KeyT]) -> bool:
        """Whether an entry has not been replaced or cancelled."""
        return self._current.get(entry[2]) == entry[1]

    def _earliest(self) -> list[_Entry[KeyT]]:
        """Return the heap whose first entry is the earliest."""
        heap, old = self._heap, self._old
        return old if old and (not heap or old[0] < heap[0]) else heap

    def _compact(self) -> None:
        # A cancelled entry stays in its heap until it reaches the top, which may be never for a long timeout.
        if not self._old and len(self._heap) > 2 * len(self._current) + _SPARE:
            self._old, self._heap = self._heap, []
        for _ in range(min(_MOVES, len(self._old))):
            entry = self._old.pop()  # a heap without its last entry is a heap
            if self._counts(entry):
                heapq.heappush(self._heap, entry)
