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
    """The deadlines of one client's jobs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: Deadlines[Job | Call] = Deadlines()
        self._tries: Deadlines[Job] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def begin(self, job: Job | Call, seconds: float) -> None:
        """Start the time for the whole job."""
        now = self._loop.time()
        self._jobs.add(job, seconds, now)
        if self._timer is None or now + seconds < self._timer_at:
            self._arm(now + seconds)

    def begin_try(self, job: Job, seconds: float) -> None:
        """Start the time for a try."""
        now = self._loop.time()
        self._tries.add(job, seconds, now)
        if self._timer is None or now + seconds < self._timer_at:
            self._arm(now + seconds)

    def end_try(self, job: Job) -> None:
        """Stop the time for a try."""
        if (seconds := job.task._options.try_timeout) is not None:
            self._tries.remove(job, seconds)
            if not (self._tries.count or self._jobs.count):
                self._disarm()

    def end_call(self, call: Call, seconds: float) -> None:
        """Stop the time for a call, which has no other."""
        self._jobs.remove(call, seconds)
        if not (self._jobs.count or self._tries.count):
            self._disarm()

    def end(self, job: Job) -> None:
        """Stop the time for the job and its try."""
        options = job.task._options
        if options.timeout is not None:
            self._jobs.remove(job, options.timeout)
        if options.try_timeout is not None:
            self._tries.remove(job, options.try_timeout)
        if not (self._jobs.count or self._tries.count):
            self._disarm()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        # A timer may be called a clock tick early, and must then not be set again for the same time.
        now = max(self._loop.time(), self._timer_at)
        for job in self._jobs.expire(now):
            job._timed_out()
        for job in self._tries.expire(now):
            if not job.done():  # both times may be over at once
                job._try_timed_out()
        due = [when for when in (self._jobs.next_due, self._tries.next_due) if when is not None]
        # A job that was tried again meanwhile has set the timer for itself, and perhaps too late for others.
        if due and (self._timer is None or min(due) < self._timer_at):
            self._arm(min(due))
