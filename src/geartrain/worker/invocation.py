"""Builds the invoker of a function: execution mode, timeout, middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from geartrain.errors import JobFailedError
from geartrain.worker.config import Middleware
from geartrain.worker.executors import Executors
from geartrain.worker.function import Function, FunctionKind, Invoker
from geartrain.worker.job import WorkerJob
from geartrain.worker.results import needs_loop, resolve, send_async_chunks

__all__ = ["MIDDLEWARE_GRACE", "build_invoker"]

MIDDLEWARE_GRACE: Final = 1.0  # seconds that middleware has to end after the timeout of its function


def build_invoker(function: Function, middleware: Iterable[Middleware], executors: Executors) -> Invoker:
    """
    Return a coroutine function that runs one job of a function.

    Args:
        function: The function.
        middleware: Wrapped around it, the outermost first.
        executors: Run a plain function.
    """
    layers = tuple(middleware)
    invoke = _build_bare_invoker(function, executors)
    if function.kind is FunctionKind.COROUTINE and (layers or function.timeout is not None):
        invoke = partial(_run_coroutine, invoke)
    if function.timeout is None:
        return _wrap(layers, invoke)

    async def run(job: WorkerJob) -> object:
        return await _TimedJob(function, invoke, layers).run(job)

    return run


def _build_bare_invoker(function: Function, executors: Executors) -> Invoker:
    if function.kind is FunctionKind.COROUTINE:
        return function.target
    if function.kind is FunctionKind.ASYNC_GENERATOR:
        return lambda job: send_async_chunks(function.target(job), job)
    return executors.make_invoker(function)


async def _run_coroutine(invoke: Invoker, job: WorkerJob) -> object:
    """Resolve an awaitable result inside middleware and timeout. Without these, the job runner does it."""
    result = await invoke(job)
    return await resolve(result, job) if needs_loop(result) else result


class _TimedJob:
    """
    One job of a function with a timeout, which counts from the start of the job, middleware included.

    At the timeout the function is stopped, and TimeoutError is raised inside the middleware. Middleware that has not
    ended :data:`MIDDLEWARE_GRACE` seconds later is cancelled.
    """

    def __init__(self, function: Function, invoke: Invoker, middleware: Sequence[Middleware]) -> None:
        assert function.timeout is not None
        self._function = function
        self._invoke = invoke
        self._middleware = middleware
        self._deadline = asyncio.get_running_loop().time() + function.timeout
        self._timeout_error: TimeoutError | None = None  # set at the timeout

    async def run(self, job: WorkerJob) -> object:
        """Run the job; raise TimeoutError or JobFailedError if it takes too long."""
        try:
            if not self._middleware:
                return await self._run_function(job)
            return await self._run_middleware(job)
        except TimeoutError as error:
            if error is self._timeout_error and self._function.on_timeout == "fail":
                raise JobFailedError(str(error)) from None
            raise

    async def _run_middleware(self, job: WorkerJob) -> object:
        try:
            async with asyncio.timeout_at(self._deadline + MIDDLEWARE_GRACE) as scope:
                return await _wrap(self._middleware, self._run_function)(job)
        except TimeoutError:
            if not scope.expired():
                raise  # raised by the function or the middleware itself
            raise self._make_timeout_error() from None

    async def _run_function(self, job: WorkerJob) -> object:
        # The clock alone does not tell: uvloop's may be a millisecond behind the timer that has fired.
        if self._timeout_error is not None or asyncio.get_running_loop().time() >= self._deadline:
            raise self._make_timeout_error()  # the middleware has used up the time
        try:
            async with asyncio.timeout_at(self._deadline) as scope:
                return await self._invoke(job)
        except TimeoutError:
            if not scope.expired():
                raise  # raised by the function itself
            raise self._make_timeout_error() from None

    def _make_timeout_error(self) -> TimeoutError:
        self._timeout_error = self._function.make_timeout_error()
        return self._timeout_error


def _wrap(middleware: Sequence[Middleware], invoke: Invoker) -> Invoker:
    for layer in reversed(middleware):
        invoke = partial(_apply_middleware, layer, invoke)
    return invoke


def _apply_middleware(layer: Middleware, invoke: Invoker, job: WorkerJob) -> Awaitable[Any]:
    return layer(job, invoke)
