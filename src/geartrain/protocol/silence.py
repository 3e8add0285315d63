"""Which jobs nothing has been heard of for long."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable

from geartrain.protocol.packets import MAX_HANDLE

__all__ = ["SilentJobs"]


class SilentJobs:
    """
    Finds the jobs of one connection that were silent for long, without a time kept for each.

    What was there at the turn before the last one, and was not heard of since, has been silent. With two turns in an
    interval that is one to one and a half intervals.
    """

    __slots__ = ("_heard", "_heard_before", "_there", "_there_before", "_to_ask")

    def __init__(self) -> None:
        self._there_before: list[bytes] = []
        self._there: list[bytes] = []
        self._heard_before: set[bytes] = set()
        self._heard: set[bytes] = set()
        self._to_ask: deque[bytes] = deque()

    def heard(self, handle: bytes) -> None:
        """Hear of a job."""
        if self._there:  # else nobody has looked yet, and may never do
            self._heard.add(handle)

    def turn(self, jobs: Iterable[bytes], at_most: int) -> None:
        """
        Begin a turn with the jobs that are there now, those first that have had nothing for longest.

        Args:
            jobs: Their handles.
            at_most: So many are to be asked after in this turn.
        """
        heard = self._heard_before | self._heard
        silent = (handle for handle in self._there_before if handle not in heard)
        # gearmand answers nothing at all to a handle that is too long, and so shifts the line of replies.
        self._to_ask = deque(
            handle for _, handle in zip(range(at_most), silent, strict=False) if len(handle) <= MAX_HANDLE
        )
        self._there_before, self._there = self._there, list(jobs)
        self._heard_before, self._heard = self._heard, set()

    def next(self, jobs: Container[bytes]) -> bytes | None:
        """Return the next one to be asked after that is still among the jobs."""
        while self._to_ask:
            handle = self._to_ask.popleft()
            if handle in jobs:
                self._heard.add(handle)  # not to be asked after again before the answer had its time
                return handle
        return None
