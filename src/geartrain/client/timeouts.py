"""Ends jobs and tries whose time is over, with one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from geartrain.client.deadlines import Deadlines

if TYPE_CHECKING:
    from geartrain.client.call import Call
    from geartrain.client.job import Job

__all__ = ["Timeouts"]


class Timeouts:
    """
    The deadlines of one client's jobs.

    Attributes:
        calls: Those of calls, which have no other, and of whole jobs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.calls: Deadlines[Job | Call] = Deadlines(self._arm, self._rest)
        self._tries: Deadlines[Job] = Deadlines(self._arm, self._rest)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def begin(self, job: Job, seconds: float) -> None:
        """Start the time for the whole job."""
        self.calls.add(job, seconds, self._loop.time() + seconds)

    def begin_try(self, job: Job, seconds: float) -> None:
        """Start the time for a try."""
        self._tries.add(job, seconds, self._loop.time() + seconds)

    def end_try(self, job: Job) -> None:
        """Stop the time for a try."""
        if (seconds := job._task._options.try_timeout) is not None:
            self._tries.remove(job, seconds)

    def end(self, job: Job) -> None:
        """Stop the time for the job and its try."""
        options = job._task._options
        if options.timeout is not None:
            self.calls.remove(job, options.timeout)
        if options.try_timeout is not None:
            self._tries.remove(job, options.try_timeout)

    def _arm(self, when: float) -> None:
        """See that the timer is set for then, or before."""
        if self._timer is not None:
            if when >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expire)

    def _rest(self) -> None:
        if self._timer is not None and not (self.calls or self._tries):
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        # A timer may be called a clock tick early, and must then not be set again for the same time.
        now = max(self._loop.time(), self._timer_at)
        for job in self.calls.expire(now):
            job._timed_out()
        for job in self._tries.expire(now):
            if not job.done():  # both times may be over at once
                job._try_timed_out()
        due = [when for when in (self.calls.next_due, self._tries.next_due) if when is not None]
        if due:  # a job that was tried again meanwhile may have set the timer, and too late for others
            self._arm(min(due))
