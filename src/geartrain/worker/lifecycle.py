"""The start and the stop of a worker's run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

__all__ = ["Lifecycle"]


class Lifecycle:
    """
    From the ``on_start`` hook to the request to stop.

    Attributes:
        stopped: Done when the run is to end; has the exception of a bug that ends it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        self._start_timeout: asyncio.Timeout | None = None  # while the on_start hook runs

    async def start(self, hook: Awaitable[None]) -> bool:
        """Wait for the ``on_start`` hook; return ``False`` if :meth:`stop` has cancelled it."""
        try:
            async with asyncio.timeout(None) as self._start_timeout:
                await hook
        except TimeoutError:
            if self._start_timeout is None or not self._start_timeout.expired():
                raise  # raised by the hook itself
            return False
        finally:
            self._start_timeout = None
        return True

    def stop(self) -> None:
        """Have the run end."""
        if not self.stopped.done():
            self.stopped.set_result(None)
            if self._start_timeout is not None:
                self._start_timeout.reschedule(self._loop.time())

    def fail(self, error: BaseException) -> None:
        """Have the run end with an error."""
        if not self.stopped.done():
            self.stopped.set_exception(error)
