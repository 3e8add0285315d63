"""Runs callbacks in order, one at a time, in the context in which the job was submitted."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from geartrain.timeout import timeout

__all__ = ["CallbackRunner", "PendingCallbacks"]

A = TypeVar("A")
R = TypeVar("R")


class _Run:
    """One call of a coroutine function, from start to end."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None  # None while an eager task (Python 3.12) takes its first step


_current: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("geartrain callback", default=None)


class PendingCallbacks:
    """
    The callbacks of one client that were scheduled and have not ended.

    Attributes:
        due: The number of calls that the event loop is about to make.
        runs: Calls of coroutine functions. Every callback that waits is either due, or behind one of these.
    """

    __slots__ = ("_closers", "due", "runs")

    def __init__(self) -> None:
        self.due: int = 0
        self.runs: set[_Run] = set()
        self._closers: set[_Run] = set()  # callbacks that wait for the end of all others

    async def wait(self, grace: float) -> None:
        """
        Wait until all callbacks have run, except those that wait here, and those behind them.

        After ``grace`` seconds coroutine functions are cancelled; after the same time again they are abandoned.
        """
        # Two callbacks must not wait for each other; a caller that is not a callback waits for all of them.
        current = _current.get()
        closers = {current} & self.runs if current is not None else set()
        self._closers |= closers
        try:
            for cancelling in (False, True):
                with contextlib.suppress(TimeoutError):
                    async with timeout(grace):
                        await self._wait_for_all(self._closers if closers else set(), cancelling=cancelling)
                        return
        finally:
            self._closers -= closers

    async def _wait_for_all(self, but: set[_Run], *, cancelling: bool) -> None:
        while True:
            while self.due:  # noqa: ASYNC110  # each turn of the loop makes all calls that were due before it
                await asyncio.sleep(0)
            tasks = [run.task for run in self.runs - but if run.task is not None]
            if not tasks:
                return
            for task in tasks if cancelling else ():
                task.cancel()
            await asyncio.wait(tasks)


class CallbackRunner:
    """
    The callbacks of one job.

    Each runs in a separate turn of the loop, so that it may call any method of the client. While a coroutine function
    runs, the callbacks after it wait.

    Args:
        functions: The callbacks by the names of their options.
        loop: The event loop.
        pending: Tracks those that have not ended.
        context: The context in which they run; by default a copy of the caller's.
    """

    __slots__ = ("_context", "_functions", "_loop", "_pending", "_queue", "_run")

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]],
        loop: asyncio.AbstractEventLoop,
        pending: PendingCallbacks,
        context: contextvars.Context | None = None,
    ) -> None:
        self._functions = functions
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._pending = pending
        self._run: _Run | None = None  # the call of a coroutine function that is in progress
        # Calls that wait for the end of a coroutine function. Hardly any job needs it, and it takes 600 bytes.
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def replace(self, functions: Mapping[str, Callable[..., object]]) -> None:
        """Call other functions from now on. Calls that were scheduled are not affected."""
        self._functions = functions

    def run_in_context(self, function: Callable[[A], R], argument: A) -> R:
        """Call a function now, in a copy of the context in which the job was submitted."""
        return self._context.copy().run(function, argument)

    def schedule(self, name: str, *arguments: object) -> None:
        """Call one of them in a later turn of the loop, if there is one of this name."""
        function = self._functions.get(name)
        if function is not None:
            self._pending.due += 1
            self._loop.call_soon(self._call, function, arguments)

    def _call(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._pending.due -= 1
        if self._run is None and not self._queue:
            self._begin(function, arguments)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append((function, arguments))

    def _begin(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        # What a function raises goes to the loop's exception handler. Only the function runs in the context: an eager
        # task (Python 3.12) enters it when it is created, and a context cannot be entered twice.
        result = self._context.run(function, *arguments)
        if asyncio.iscoroutine(result):
            self._run = run = _Run()
            self._pending.runs.add(run)
            self._context.run(_current.set, run)
            run.task = self._loop.create_task(
                cast("Coroutine[Any, Any, None]", result), context=self._context, name=f"geartrain {function!r}"
            )
            run.task.add_done_callback(self._ended, context=contextvars.Context())

    def _ended(self, task: asyncio.Task[None]) -> None:
        assert self._run is not None, "one runs at a time"
        self._pending.runs.discard(self._run)
        self._run = None
        self._context.run(_current.set, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": f"Exception in callback {task.get_name()}", "exception": error, "task": task}
            )
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        self._pending.due += 1
        self._loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        """Call those that waited for a coroutine function, one per turn of the loop, up to the next such function."""
        self._pending.due -= 1
        if self._run is None and self._queue:
            try:
                self._begin(*self._queue.popleft())
            finally:
                self._catch_up_soon()
