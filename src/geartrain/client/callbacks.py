"""Runs a job's callbacks: in order, one at a time, in the context of whoever submitted it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from geartrain.timeout import timeout

__all__ = ["CallbackRunner", "PendingCallbacks"]


class _Run:
    """One call of a coroutine function, from its begin to its end."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None  # none yet while an eager task (Python 3.12) takes its first step


_current: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("geartrain callback", default=None)


class PendingCallbacks:
    """
    The callbacks of one client's jobs that were called and have not ended.

    Attributes:
        due: Calls that the event loop is about to make.
        runs: Of coroutine functions. A callback that waits for one of its job has either a call due, or is behind one
            of these.
    """

    __slots__ = ("_closers", "due", "runs")

    def __init__(self) -> None:
        self.due: int = 0
        self.runs: set[_Run] = set()
        self._closers: set[_Run] = set()  # those that wait for the end of all others

    async def wait(self, grace: float) -> None:
        """
        Wait until all callbacks have run, but for those that wait here themselves, and what is behind these.

        After ``grace`` seconds coroutine functions are cancelled; after as many more they are left.
        """
        # Two callbacks must not wait for each other; whoever is none waits for all of them.
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
            while self.due:  # noqa: ASYNC110  # each turn makes all the calls that were due before it
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

    Each runs in a turn of the loop of its own, so that it may call anything of the client. While one that is a
    coroutine function runs, those after it wait for its end.

    Args:
        functions: By the names of their options.
        pending: Counts those that were called and have not ended.
        context: In which they run; by default a copy of the caller's.
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
        self._run: _Run | None = None  # of a coroutine function
        # What has to wait for a coroutine function; nearly no job needs it, and it takes 600 bytes.
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def schedule(self, name: str, *arguments: object) -> None:
        """Call one of them soon, if the task has it."""
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
        # What a function raises goes from here to the loop's exception handler. Only the function runs in the context:
        # an eager task (Python 3.12) enters it when it is made, and it can be entered once only.
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
        """Call those that had to wait for a coroutine function, one in a turn, up to the next such."""
        self._pending.due -= 1
        if self._run is None and self._queue:
            try:
                self._begin(*self._queue.popleft())
            finally:
                self._catch_up_soon()
