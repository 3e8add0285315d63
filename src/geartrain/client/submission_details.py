"""State that few jobs need, allocated on first use."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from geartrain.backoff import FIRST, delay

if TYPE_CHECKING:
    import asyncio

    from geartrain.client.task import Task
    from geartrain.client.updates import UpdateStream
    from geartrain.errors import GearmanError
    from geartrain.handle import JobHandle

__all__ = ["MAX_REASON", "SubmissionDetails"]

MAX_REASON: Final = 8192  # bytes that are kept of a WORK_WARNING


class SubmissionDetails:
    """
    What a submission remembers for retries, iteration and ``Job.created``.

    Attributes:
        tries: The number of tries begun.
        failure: The error of the last try that was sent.
        errors: Why this try could not be sent, by job server, in the present round through all of them.
        original: The task as it was submitted, if the client has ``on_submit``.
        is_prepared: The task of this try has been passed to ``on_submit``.
        back_off: Seconds of the back-off that is running.
        status: Numerator and denominator of the last WORK_STATUS of this try.
        warning: The beginning of the last WORK_WARNING of this try.
        created: Resolved with the handle, for those who wait for it.
        updates: The streams that deliver the job's updates, or ``None`` if there were none.
    """

    # Class-level defaults: most instances set only one attribute, so their dicts stay small.
    tries: int = 1
    failure: GearmanError | None = None
    errors: dict[str, Exception] | None = None
    original: Task | None = None
    is_prepared: bool = False
    back_off: float | None = None
    status: tuple[int | float, int | float] | None = None
    warning: bytes | None = None
    created: asyncio.Future[JobHandle] | None = None
    updates: weakref.WeakSet[UpdateStream] | None = None
    _rounds_missed: int = 0  # rounds in which this try has found no job server
    _give_up_at: float = 0.0  # the loop time at which this try ends if it still finds none

    def add_error(self, server: str, error: Exception) -> None:
        """Record why this try could not be sent to a job server."""
        if self.errors is None:
            self.errors = {}
        self.errors[server] = error

    def add_updates(self, updates: UpdateStream) -> None:
        """Deliver updates to a stream, for as long as its consumer keeps it."""
        if self.updates is None:
            self.updates = weakref.WeakSet()
        self.updates.add(updates)

    def keep_warning(self, data: bytes) -> None:
        """Remember the last WORK_WARNING of this try."""
        self.warning = data[:MAX_REASON]

    @property
    def reason(self) -> str | None:
        """Why a worker that now sends WORK_FAIL does so: its last WORK_WARNING, if there was one."""
        return None if self.warning is None else self.warning.decode("utf-8", "replace")

    def begin_try(self) -> None:
        """Reset what belongs to one try."""
        self.tries += 1
        self.is_prepared = False
        self.errors = self.status = self.warning = None
        self._rounds_missed = 0
        if self.created is not None and self.created.done():
            self.created = None

    def next_round(self, now: float, dead_time: float) -> float | None:
        """
        Count a round in which no job server could be reached.

        Returns:
            The seconds until the next round, or ``None`` if ``dead_time`` has passed since the first one.
        """
        self._rounds_missed += 1
        if self._rounds_missed == 1:
            self._give_up_at = now + dead_time
        if now >= self._give_up_at:
            return None
        self.errors = None
        # The last round begins at `_give_up_at`. FIRST is the least wait: a clock may be rounded.
        return min(delay(self.tries - 1 + self._rounds_missed), max(self._give_up_at - now, FIRST))
