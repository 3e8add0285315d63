"""How each kind of function is run: in the loop or in a thread, giving one result or many chunks."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Executor
from contextlib import aclosing, closing
from functools import partial
from typing import Any

from geartrain.errors import JobFailedError
from geartrain.worker.function import Call, Function, Kind
from geartrain.worker.job import WorkerJob
from geartrain.worker.options import Middleware

__all__ = ["in_thread", "make_call", "run_blocking"]


def make_call(function: Function, middleware: Iterable[Middleware], executor: Executor) -> Call:
    """
    Return what runs a job of a function.

    Args:
        function: The function.
        middleware: What is around it and its timeout, the outermost first.
        executor: Where plain functions run.
    """
    call = _make_bare_call(function, executor)
    if function.timeout is not None:
        call = _with_timeout(function, function.timeout, call)
    for layer in reversed(list(middleware)):
        call = partial(_through, layer, call)
    return call


def _through(layer: Middleware, call: Call, job: WorkerJob) -> Awaitable[Any]:
    return layer(job, call)


def _make_bare_call(function: Function, executor: Executor) -> Call:
    call = function.call
    match function.kind:
        case Kind.COROUTINE:
            return call
        case Kind.ASYNC_GENERATOR:
            return lambda job: _send_chunks(call(job), job)
        case Kind.GENERATOR | Kind.PLAIN:
            return in_thread(lambda job: run_blocking(function, job), executor)


def in_thread(call: Callable[[WorkerJob], object], executor: Executor) -> Call:
    """Return what runs ``call`` in a thread, in a copy of the present context."""

    async def run(job: WorkerJob) -> object:
        future = executor.submit(contextvars.copy_context().run, call, job)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # Nothing stops a thread. The slot stays in use as long as it runs.
            if not future.cancel() and not future.done():
                job._straggler = future
            raise

    return run


def _with_timeout(function: Function, timeout: float, call: Call) -> Call:
    async def run(job: WorkerJob) -> object:
        try:
            async with asyncio.timeout(timeout) as scope:
                return await call(job)
        except TimeoutError:
            if not scope.expired():
                raise  # the function's own
            error = JobFailedError if function.on_timeout == "fail" else TimeoutError
            raise error(f"{function.name!r} took longer than {timeout:g} s") from None

    return run


def run_blocking(function: Function, job: WorkerJob) -> object:
    """Run a job of a function that is not for the loop, and return its result."""
    result: Any = function.call(job)
    return _send_all(result, job) if function.kind is Kind.GENERATOR else result


async def _send_chunks(chunks: AsyncGenerator[Any, None], job: WorkerJob) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            job.send_data(chunk)
            await job.drain()
            if job.lost:  # a generator may be without end, and nobody hears it any more
                return


def _send_all(chunks: Generator[Any, None, Any], job: WorkerJob) -> object:
    with closing(chunks):
        while not job.lost:
            try:
                chunk = next(chunks)
            except StopIteration as stop:
                return stop.value
            job.send_data(chunk)
    return None
