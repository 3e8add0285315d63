"""What few jobs need, so that the others do not pay for it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from geartrain.backoff import FIRST, delay

if TYPE_CHECKING:
    import asyncio

    from geartrain.client.callbacks import Callbacks
    from geartrain.client.updates import Updates
    from geartrain.errors import GearmanError
    from geartrain.handle import JobHandle

__all__ = ["Extras"]


class Extras:
    """
    Of one job, what only callbacks, iteration, retries and the like ask for.

    Attributes:
        callbacks: Those of the task, if it has any.
        created: Who waits for the handle.
        errors: Why this try could not be sent, by job server, in the present round through all of them.
        failure: Of the last try that was sent.
        back_off: Seconds that it lasts, while it does.
        status: Numbers of the last WORK_STATUS of this try.
        updates: The iterations of the job, or ``None`` if there were none.
    """

    # On the class, since most of what has any of these has but one, and would pay for all.
    callbacks: Callbacks | None = None
    created: asyncio.Future[JobHandle] | None = None
    errors: dict[str, Exception] | None = None
    failure: GearmanError | None = None
    back_off: float | None = None
    status: tuple[int | float, int | float] | None = None
    updates: weakref.WeakSet[Updates] | None = None
    _missed: int = 0  # rounds in which this try has found no job server
    _over_at: float = 0.0  # when it is over if it goes on finding none

    def add_error(self, server: str, error: Exception) -> None:
        """Note why this try could not be sent to a job server."""
        if self.errors is None:
            self.errors = {}
        self.errors[server] = error

    def add(self, updates: Updates) -> None:
        """Add an iteration of the job; it lasts no longer than whoever iterates."""
        if self.updates is None:
            self.updates = weakref.WeakSet()
        self.updates.add(updates)

    def begin_try(self) -> None:
        """Forget what was true of the try before."""
        self.errors = self.status = None
        self._missed = 0
        if self.created is not None and self.created.done():
            self.created = None

    def miss(self, now: float, *, dead_time: float, tries: int) -> float | None:
        """
        Count a round in which no job server could be reached.

        Returns:
            The seconds until the next round, or ``None`` if ``dead_time`` has passed since the first one.
        """
        self._missed += 1
        if self._missed == 1:
            self._over_at = now + dead_time
        if now >= self._over_at:
            return None
        self.errors = None
        # The last round comes when the time is over; but none in no time, however a clock may be rounded.
        return min(delay(tries - 1 + self._missed), max(self._over_at - now, FIRST))
