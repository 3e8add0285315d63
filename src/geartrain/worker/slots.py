"""Shares a worker's slots among its job servers, so that none of them starves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["Grabber", "Slots"]

J = TypeVar("J")


class Grabber(Protocol):
    """A connection that asks for jobs when it is its turn."""

    asked: int
    """Its grabs that are unanswered. Only :class:`Slots` sets it."""

    reserved: int
    """Slots that are kept for the answers of its grabs. Only :class:`Slots` sets it."""

    in_line: bool
    """Whether it waits for its turn. Only :class:`Slots` sets it."""

    @property
    def may_grab(self) -> bool:
        """Whether to ask for one more job."""

    def grab(self) -> None:
        """Ask for a job."""


G = TypeVar("G", bound=Grabber)


class Slots(Generic[G, J]):
    """
    Counts the jobs that may run at a time.

    Each grab reserves a slot, so that there is one for the job that may come. The connections take turns, one grab at a
    time: with one slot and two job servers that have jobs, each is asked every second time.

    Args:
        concurrency: How many slots there are.
        start: Called with a connection and a job that has a slot now.
        limit: Take so many jobs and no more.

    Attributes:
        free: Slots that are neither reserved nor in use.
        left: Jobs that are still to be taken.
    """

    def __init__(self, concurrency: int, start: Callable[[G, J], None], limit: float = math.inf) -> None:
        self.concurrency = concurrency
        self.free: int = concurrency
        self.left: float = limit
        self._asked = 0  # grabs that are unanswered
        self._start = start
        self._on_idle: Callable[[], None] | None = None  # set when no more jobs are asked for
        self._line: deque[G] = deque()
        self._late: deque[tuple[G, J]] = deque()
        self._starting_late = False

    @property
    def open(self) -> bool:
        """Whether jobs are asked for."""
        return self._on_idle is None

    @property
    def idle(self) -> bool:
        """Whether no slot is in use or reserved, and no job is waiting for one."""
        return self.free == self.concurrency and not self._late

    def close(self, on_idle: Callable[[], None]) -> None:
        """Ask for no more jobs, and call ``on_idle``, perhaps more than once, when those in hand have ended."""
        self._on_idle = on_idle
        self.share()

    def want(self, grabber: G) -> None:
        """Put a connection into the line; call :meth:`share` then."""
        if not grabber.in_line:
            grabber.in_line = True
            self._line.append(grabber)

    def share(self) -> None:
        """Let those in the line ask for jobs, in turn, as long as there are slots. Call it after every change."""
        if self._on_idle is not None:
            if self.idle:
                self._on_idle()
            return
        line = self._line
        while self.free and line and self._asked < self.left:
            grabber = line.popleft()
            if not grabber.may_grab:
                grabber.in_line = False
                continue
            line.append(grabber)
            self.free -= 1
            self._asked += 1
            grabber.asked += 1
            grabber.reserved += 1
            grabber.grab()

    def settle(self, grabber: G, answers: int, jobs: Sequence[J]) -> None:
        """Take note of answers to grabs, and of the jobs that they brought; start these, or as soon as possible."""
        self._asked -= answers
        grabber.asked -= answers
        self.left -= len(jobs)
        count = min(len(jobs), grabber.reserved)
        unused = min(answers - len(jobs), grabber.reserved - count)
        grabber.reserved -= count
        if count < len(jobs):
            self._late.extend((grabber, job) for job in jobs[count:])
            jobs = jobs[:count]
        # An eager task may end while it is started, and its slot go to the next grab: count everything before that.
        for job in jobs:
            self._start(grabber, job)
        self._take_back(grabber, min(unused, grabber.reserved))

    def release(self) -> None:
        """Take note that a job has ended."""
        self.free += 1
        if self._starting_late:
            return  # the job ended while it was started, and the next late one gets its slot
        if self._late:
            self._start_late()
        self.share()

    def lend(self, grabber: G) -> None:
        """
        Give the slots reserved for a connection to the others: its job server keeps them waiting.

        A job that it sends after all gets the next slot that is free.
        """
        self._take_back(grabber, grabber.reserved)
        self.share()

    def leave(self, grabber: G) -> None:
        """Take note that a connection is gone, with the jobs that it had not started."""
        if self._late:
            self._late = deque(late for late in self._late if late[0] is not grabber)
        self._asked -= grabber.asked
        grabber.asked = 0
        self.lend(grabber)

    def _take_back(self, grabber: G, reserved: int) -> None:
        grabber.reserved -= reserved
        self.free += reserved
        if self._late:
            self._start_late()

    def _start_late(self) -> None:
        self._starting_late = True
        try:
            while self.free and self._late:
                self.free -= 1
                self._start(*self._late.popleft())
        finally:
            self._starting_late = False
