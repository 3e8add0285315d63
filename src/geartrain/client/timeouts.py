"""Job timeouts, try timeouts and back-offs, driven by a single event-loop timer."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from geartrain.client.deadlines import Deadlines
from geartrain.client.slices import SLICE

if TYPE_CHECKING:
    from geartrain.client.task_spec import TaskSpec

__all__ = ["JobTimeouts"]


class TimedJob(Protocol):
    """A job with deadlines."""

    spec: TaskSpec

    @property
    def has_ended(self) -> bool:
        """Whether its outcome is known."""

    def on_timeout(self) -> None:
        """Called when the deadline of the whole job has passed."""

    def on_try_timeout(self) -> None:
        """Called when the deadline of this try has passed."""

    def on_back_off_end(self) -> None:
        """Called when the back-off before the next try is over."""


class JobTimeouts:
    """The deadlines of one client's jobs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: Deadlines[TimedJob] = Deadlines(self._arm, self._disarm_if_empty)
        self._tries: Deadlines[TimedJob] = Deadlines(self._arm, self._disarm_if_empty)
        self._back_offs: Deadlines[TimedJob] = Deadlines(self._arm, self._disarm_if_empty)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def start(self, job: TimedJob, seconds: float) -> None:
        """Start the timeout of the whole job."""
        self._jobs.add(job, seconds, self._loop.time() + seconds)

    def start_try(self, job: TimedJob, seconds: float) -> None:
        """Start the timeout of a try."""
        self._tries.add(job, seconds, self._loop.time() + seconds)

    def start_back_off(self, job: TimedJob, seconds: float) -> None:
        """Start a back-off."""
        self._back_offs.add(job, seconds, self._loop.time() + seconds)

    def stop_try(self, job: TimedJob) -> None:
        """Stop the timeout of a try."""
        if (seconds := job.spec.options.try_timeout) is not None:
            self._tries.remove(job, seconds)

    def stop(self, job: TimedJob) -> None:
        """Stop the timeouts of the job and of its try."""
        options = job.spec.options
        if options.timeout is not None:
            self._jobs.remove(job, options.timeout)
        if options.try_timeout is not None:
            self._tries.remove(job, options.try_timeout)

    def stop_back_off(self, job: TimedJob, seconds: float) -> None:
        """Stop a back-off of this length."""
        self._back_offs.remove(job, seconds)

    def stop_all_tries(self) -> None:
        """Stop the timeouts of all tries, and all back-offs."""
        self._tries.clear()
        self._back_offs.clear()

    def _arm(self, when: float) -> None:
        """Ensure that the timer fires at or before this time."""
        if self._timer is not None:
            if when >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expire, context=Context())  # it outlives the caller

    def _disarm_if_empty(self) -> None:
        if self._timer is not None and not (self._jobs or self._tries or self._back_offs):
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        # A timer may fire a clock tick early, and must then not be set again for the same time.
        now = max(self._loop.time(), self._timer_at)
        # If very many are due at once, the others follow in the next turn of the loop.
        for job in self._jobs.expire(now, SLICE):
            job.on_timeout()
        for job in self._tries.expire(now, SLICE):
            if not job.has_ended:  # both deadlines may have passed
                job.on_try_timeout()
        for job in self._back_offs.expire(now, SLICE):
            job.on_back_off_end()
        due = [when for each in (self._jobs, self._tries, self._back_offs) if (when := each.next_due) is not None]
        if due:  # a job retried above may have set the timer too late for others
            self._arm(min(due))
