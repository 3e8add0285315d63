"""What is to be done at a time, in the order in which it is due."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Alarms"]

_SPARE: Final = 64  # cancelled entries that are not worth a rebuild

KeyT = TypeVar("KeyT", bound=Hashable)


class Alarms(Generic[KeyT]):
    """
    Keys and the times at which they are due; each key has one time at most.

    Setting, cancelling and taking cost O(log n) at most, and memory is bounded by what is set now, not by history.
    """

    __slots__ = ("_count", "_current", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, KeyT]] = []
        self._current: dict[KeyT, int] = {}  # the number of the entry in the heap that counts
        self._count = 0

    def __len__(self) -> int:
        return len(self._current)

    def set(self, key: KeyT, when: float) -> None:
        """Have ``key`` be due at ``when``, and at no other time that was set before."""
        self._count += 1
        self._current[key] = self._count
        heapq.heappush(self._heap, (when, self._count, key))
        self._compact()

    def cancel(self, key: KeyT) -> None:
        """Forget ``key``, if it is set."""
        if self._current.pop(key, None) is not None:
            self._compact()

    @property
    def next(self) -> float | None:
        """The earliest time at which a key is due."""
        heap, current = self._heap, self._current
        while heap and current.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> list[KeyT]:
        """Forget the keys that are due at ``now``, and return them in the order of their times."""
        due: list[KeyT] = []
        while (when := self.next) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            due.append(key)
        return due

    def _compact(self) -> None:
        # A cancelled entry stays in the heap until it comes to the top, which for a long timeout may be never.
        if len(self._heap) > 2 * len(self._current) + _SPARE:
            self._heap = [entry for entry in self._heap if self._current.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)
