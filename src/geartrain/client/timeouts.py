"""Ends jobs and tries whose time is over, with one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from geartrain.client.deadlines import Deadlines

if TYPE_CHECKING:
    from geartrain.client.job import Job

__all__ = ["Timeouts"]


class Timeouts:
    """The deadlines of one client's jobs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: Deadlines[Job] = Deadlines()
        self._tries: Deadlines[Job] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def begin(self, job: Job) -> None:
        """Start the time for the whole job."""
        self._add(self._jobs, job, job.task._options.timeout)

    def begin_try(self, job: Job) -> None:
        """Start the time for a try."""
        self._add(self._tries, job, job.task._options.try_timeout)

    def end_try(self, job: Job) -> None:
        """Stop the time for a try."""
        if (seconds := job.task._options.try_timeout) is not None:
            self._tries.remove(job, seconds)
            self._disarm_if_idle()

    def end(self, job: Job) -> None:
        """Stop the time for the job and its try."""
        if (seconds := job.task._options.timeout) is not None:
            self._jobs.remove(job, seconds)
            self._disarm_if_idle()
        self.end_try(job)

    def _add(self, deadlines: Deadlines[Job], job: Job, seconds: float | None) -> None:
        if seconds is None:
            return
        now = self._loop.time()
        deadlines.add(job, seconds, now)
        if self._timer is None or now + seconds < self._timer_at:
            self._arm(now + seconds)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expire)

    def _disarm_if_idle(self) -> None:
        if self._timer is not None and not self._jobs and not self._tries:
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
