"""What runs the jobs of each kind of function, and what is around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from geartrain.errors import JobFailedError
from geartrain.worker.function import Call, Function, Kind, run_blocking
from geartrain.worker.helpers import Helpers
from geartrain.worker.job import WorkerJob
from geartrain.worker.options import Middleware
from geartrain.worker.results import needs_loop, resolve, send_async_chunks

__all__ = ["MIDDLEWARE_GRACE", "make_call"]

MIDDLEWARE_GRACE: Final = 1.0  # seconds that middleware has to end after the timeout of its function


def make_call(function: Function, middleware: Iterable[Middleware], helpers: Helpers) -> Call:
    """
    Return what runs a job of a function.

    Args:
        function: The function.
        middleware: What is around it, the outermost first.
        helpers: Where plain functions run.
    """
    layers = tuple(middleware)
    call = _make_bare_call(function, helpers)
    if function.kind is Kind.COROUTINE and (layers or function.timeout is not None):
        call = partial(_run_coroutine, call)
    if function.timeout is None:
        return _wrap(layers, call)

    async def run(job: WorkerJob) -> object:
        return await _TimedJob(function, call, layers).run(job)

    return run


def _make_bare_call(function: Function, helpers: Helpers) -> Call:
    if function.kind is Kind.COROUTINE:
        return function.call
    if function.kind is Kind.ASYNC_GENERATOR:
        return lambda job: send_async_chunks(function.call(job), job)
    if function.processes is not None:
        return helpers.in_processes(function, function.processes)
    return helpers.in_thread(partial(run_blocking, function))


async def _run_coroutine(call: Call, job: WorkerJob) -> object:
    """Resolve an awaitable that a coroutine returns, inside middleware and timeout. Otherwise the runner does it."""
    result = await call(job)
    return await resolve(result, job) if needs_loop(result) else result


class _TimedJob:
    """
    One job of a function with a timeout, which counts from the start of the job, middleware included.

    Then the function is stopped, and a TimeoutError is raised inside the middleware, which may end as it likes. If it
    has not ended :data:`MIDDLEWARE_GRACE` seconds later, it is cancelled.
    """

    def __init__(self, function: Function, call: Call, middleware: Sequence[Middleware]) -> None:
        assert function.timeout is not None
        self._function = function
        self._call = call
        self._middleware = middleware
        self._deadline = asyncio.get_running_loop().time() + function.timeout
        self._error: TimeoutError | None = None  # once the time is over

    async def run(self, job: WorkerJob) -> object:
        """Run the job; raise TimeoutError or JobFailedError if it took too long."""
        try:
            if not self._middleware:
                return await self._call_function(job)
            return await self._call_middleware(job)
        except TimeoutError as error:
            if error is self._error and self._function.on_timeout == "fail":
                raise JobFailedError(str(error)) from None
            raise

    async def _call_middleware(self, job: WorkerJob) -> object:
        try:
            async with asyncio.timeout_at(self._deadline + MIDDLEWARE_GRACE) as scope:
                return await _wrap(self._middleware, self._call_function)(job)
        except TimeoutError:
            if not scope.expired():
                raise  # of the function, or the middleware's own
            raise self._time_out() from None

    async def _call_function(self, job: WorkerJob) -> object:
        if asyncio.get_running_loop().time() >= self._deadline:
            raise self._time_out()  # the middleware has used up the time
        try:
            async with asyncio.timeout_at(self._deadline) as scope:
                return await self._call(job)
        except TimeoutError:
            if not scope.expired():
                raise  # the function's own
            raise self._time_out() from None

    def _time_out(self) -> TimeoutError:
        self._error = TimeoutError(f"{self._function.name!r} took longer than {self._function.timeout:g} s")
        return self._error


def _wrap(middleware: Sequence[Middleware], call: Call) -> Call:
    for layer in reversed(middleware):
        call = partial(_through, layer, call)
    return call


def _through(layer: Middleware, call: Call, job: WorkerJob) -> Awaitable[Any]:
    return layer(job, call)
