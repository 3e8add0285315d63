"""Ends jobs, tries and back-offs whose time is over, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from geartrain.client.deadlines import Deadlines
from geartrain.client.slices import SLICE

if TYPE_CHECKING:
    from geartrain.client.call import Call
    from geartrain.client.job import Job

__all__ = ["Timeouts"]


class Timeouts:
    """
    The deadlines of one client's jobs.

    Args:
        loop: The event loop.
        retry: Called with a job whose back-off is over.

    Attributes:
        calls: Those of calls, which have no other, and of whole jobs.
        retries: When back-offs are over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, retry: Callable[[Job], None]) -> None:
        self._loop = loop
        self._retry = retry
        self.retries: Deadlines[Job] = Deadlines(self._arm, self._rest)
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

    def end_all_tries(self) -> None:
        """Stop the time for all tries, and begin no other one."""
        self._tries.clear()
        self.retries.clear()

    def _arm(self, when: float) -> None:
        """See that the timer is set for then, or before."""
        if self._timer is not None:
            if when >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expire, context=Context())  # it outlives the caller

    def _rest(self) -> None:
        if self._timer is not None and not (self.calls or self._tries or self.retries):
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        # A timer may be called a clock tick early, and must then not be set again for the same time.
        now = max(self._loop.time(), self._timer_at)
        # Of very many that are due at once the others are next in the next turn of the loop.
        for job in self.calls.expire(now, SLICE):
            job._timed_out()
        for job in self._tries.expire(now, SLICE):
            if not job.done():  # both times may be over at once
                job._try_timed_out()
        for job in self.retries.expire(now, SLICE):
            self._retry(job)
        due = [when for each in (self.calls, self._tries, self.retries) if (when := each.next_due) is not None]
        if due:  # a job that was tried again meanwhile may have set the timer, and too late for others
            self._arm(min(due))
