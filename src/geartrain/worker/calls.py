"""What runs the jobs of each kind of function, and what is around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

from geartrain.errors import JobFailedError
from geartrain.worker.function import Call, Function, Kind, run_blocking
from geartrain.worker.helpers import Helpers
from geartrain.worker.job import WorkerJob
from geartrain.worker.options import Middleware

__all__ = ["make_call"]


def make_call(function: Function, middleware: Iterable[Middleware], helpers: Helpers) -> Call:
    """
    Return what runs a job of a function.

    Args:
        function: The function.
        middleware: What is around it and its timeout, the outermost first.
        helpers: Where plain functions run.
    """
    call = _make_bare_call(function, helpers)
    if function.timeout is not None:
        call = _with_timeout(function, function.timeout, call)
    for layer in reversed(list(middleware)):
        call = partial(_through, layer, call)
    return call


def _make_bare_call(function: Function, helpers: Helpers) -> Call:
    if function.kind is Kind.COROUTINE:
        return function.call
    if function.kind is Kind.ASYNC_GENERATOR:
        return lambda job: _send_chunks(function.call(job), job)
    if function.processes is not None:
        return helpers.in_processes(function, function.processes)
    return helpers.in_thread(partial(run_blocking, function))


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


def _through(layer: Middleware, call: Call, job: WorkerJob) -> Awaitable[Any]:
    return layer(job, call)


async def _send_chunks(chunks: AsyncGenerator[Any, None], job: WorkerJob) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            job.send_data(chunk)
            await job.drain()
            if job.lost:  # it may be without end
                return
