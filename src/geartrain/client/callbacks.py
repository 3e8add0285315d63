"""Runs a job's callbacks: in order, one at a time, in the context of whoever submitted it."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

__all__ = ["Callbacks", "get_current_callback"]

_current: contextvars.ContextVar[asyncio.Task[None] | None] = contextvars.ContextVar("geartrain callback", default=None)


def get_current_callback() -> asyncio.Task[None] | None:
    """Return the asyncio task of the callback in which this runs, or which has begun the task in which it runs."""
    return _current.get()


class Callbacks:
    """
    The callbacks of one job.

    Each runs in a turn of the loop of its own, so that it may call anything of the client. While one that is a
    coroutine function runs, those after it wait for its end.

    Args:
        functions: By the names of their options.
        running: Where the asyncio tasks of coroutine functions are kept while they run.
    """

    __slots__ = ("_context", "_functions", "_loop", "_queue", "_running", "_task")

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]],
        loop: asyncio.AbstractEventLoop,
        running: set[asyncio.Task[None]],
    ) -> None:
        self._functions = functions
        self._loop = loop
        self._context = contextvars.copy_context()
        self._running = running
        self._task: asyncio.Task[None] | None = None
        # What has to wait for a coroutine function; nearly no job needs it, and it takes 600 bytes.
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def call(self, name: str, *arguments: object) -> None:
        """Call one of them soon, if the task has it."""
        function = self._functions.get(name)
        if function is not None:
            self._loop.call_soon(self._call, function, arguments)

    def _call(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self._task is None and not self._queue:
            self._run(function, arguments)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append((function, arguments))

    def _run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        # What a function raises goes from here to the loop's exception handler. Only the function runs in the context:
        # an eager task (Python 3.12) enters it when it is made, and it can be entered once only.
        result = self._context.run(function, *arguments)
        if asyncio.iscoroutine(result):
            self._task = self._loop.create_task(
                cast("Coroutine[Any, Any, None]", result), context=self._context, name=f"geartrain {function!r}"
            )
            self._running.add(self._task)
            self._context.run(_current.set, self._task)
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._context.run(_current.set, None)
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": f"Exception in callback {task.get_name()}", "exception": error, "task": task}
            )
        self._loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        """Call those that had to wait for a coroutine function, one in a turn, up to the next such."""
        if self._task is None and self._queue:
            try:
                self._run(*self._queue.popleft())
            finally:
                self._loop.call_soon(self._catch_up)
