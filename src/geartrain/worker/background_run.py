"""A run of a worker in the background of an ``async with`` block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["BackgroundRun"]


class BackgroundRun:
    """
    Runs a worker in a task. If the run fails, the block is cancelled, and ends with the error of the run.

    Args:
        run: The run.
        stop: Has the run end when its jobs have ended.
    """

    def __init__(self, run: Coroutine[Any, Any, None], stop: Callable[[], None]) -> None:
        self._run = run
        self._stop = stop
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the run."""
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run)

    async def end(self, error: BaseException | None) -> None:
        """
        Let the running jobs end, and wait for it. After an error in the block, end the run immediately instead.

        Raises:
            BaseException: What the run has raised.
        """
        assert self._task is not None
        if error is None and not self._task.done():
            self._stop()
        try:
            await self._group.__aexit__(None if error is None else type(error), error, None)
        except BaseExceptionGroup:
            if not self._task.cancelled() and (failure := self._task.exception()) is not None:
                raise failure from None
            # The block's own error, which the caller still raises.
