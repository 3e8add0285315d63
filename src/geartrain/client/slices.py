"""Does long work in slices, so that it does not hold up the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Final

__all__ = ["SLICE", "Slices"]

SLICE: Final = 250  # jobs handled in one turn of the loop: about 2 ms


class Slices:
    """
    Runs iterators in the order in which they were added, at most :data:`SLICE` steps in one turn of the loop.

    Short work is done when :meth:`add` returns.

    Args:
        loop: The event loop.
        on_idle: Called when the last iterator has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_idle: Callable[[], None]) -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._work: deque[Iterator[None]] = deque()
        self._left = SLICE  # steps in this turn
        self._next_turn_scheduled = False
        self._running = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._work

    def add(self, work: Iterator[None]) -> None:
        """Run an iterator to its end, immediately as far as this turn of the loop allows."""
        self._work.append(work)
        if not self._running:  # else a step of an earlier iterator has called this method
            self._run()

    async def wait(self) -> None:
        """Wait until there is nothing to do. It is safe to cancel the wait."""
        while self._work:
            ended: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(ended)
            await ended

    def _run(self) -> None:
        if not self._next_turn_scheduled:
            self._next_turn_scheduled = True
            self._loop.call_soon(self._begin_turn, context=Context())
        self._running = True
        try:
            while self._work and self._left:
                for _ in self._work[0]:
                    self._left -= 1
                    if not self._left:
                        break
                else:
                    self._work.popleft()
        finally:
            self._running = False
        if not self._work:
            self._end()

    def _begin_turn(self) -> None:
        self._left, self._next_turn_scheduled = SLICE, False
        if self._work:
            self._run()

    def _end(self) -> None:
        waiters, self._waiters = self._waiters, []
        for ended in waiters:
            if not ended.done():
                ended.set_result(None)
        self._on_idle()
