"""Notices that an event loop is stuck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Final

__all__ = ["STUCK_AFTER", "LoopWatch"]

STUCK_AFTER: Final = 5.0  # seconds
_INTERVAL: Final = 1.0  # seconds between the turns that are recorded


class LoopWatch:
    """Records that an event loop turns, for other threads."""

    def __init__(self) -> None:
        self._last_turn: float | None = None  # by the monotonic clock; None while no loop is watched
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the running event loop until the end of the block."""
        self._turn()
        try:
            yield
        finally:
            assert self._timer is not None
            self._timer.cancel()
            self._last_turn = None

    def find_problem(self) -> str | None:
        """Return for how long the loop has been stuck, if it is. Any thread may ask."""
        last_turn = self._last_turn
        seconds = 0.0 if last_turn is None else time.monotonic() - last_turn
        return f"the event loop has been stuck for {seconds:.0f} s" if seconds >= STUCK_AFTER else None

    def _turn(self) -> None:
        self._last_turn = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._turn, context=Context())
