"""Results that are not ready when a function returns: awaitables and generators."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Final, Never

from geartrain.worker.job import WorkerJob

__all__ = ["PLAIN_TYPES", "needs_loop", "resolve", "resolve_outcome", "send_async_chunks", "send_chunks"]

PLAIN_TYPES: Final = frozenset({bytes, str, type(None)})
"""The types of most results, which need no resolving."""


def needs_loop(result: object) -> bool:
    """Return whether a result has to be resolved by :func:`resolve`."""
    return type(result) not in PLAIN_TYPES and (inspect.isawaitable(result) or inspect.isasyncgen(result))


async def resolve(result: Any, job: WorkerJob) -> object:
    """Await what a function returned until it is a plain result; send the chunks of an async generator."""
    while inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        await send_async_chunks(result, job)
        return None
    return result


async def resolve_outcome(result: object, job: WorkerJob) -> tuple[object, BaseException | None]:
    """
    Return what :func:`resolve` returns or raises, for a separate task.

    SystemExit and KeyboardInterrupt would leave the task and stop its event loop, and an exception whose ``__class__``
    raises would keep ``asyncio.run`` from ending.
    """
    try:
        return await resolve(result, job), None
    except BaseException as error:  # noqa: BLE001  # it is raised again by whoever waits for the task
        return None, error


async def send_async_chunks(chunks: AsyncGenerator[Any, Never], job: WorkerJob) -> None:
    """Send each chunk as WORK_DATA, until the job is lost."""
    async with aclosing(chunks):
        async for chunk in chunks:
            job.send_data(chunk)
            await job.drain()
            if job.lost:  # it may be endless
                return


def send_chunks(chunks: Generator[Any, Never, Any], job: WorkerJob) -> object:
    """Send each chunk as WORK_DATA, until the job is lost; return what the generator returned."""
    with closing(chunks):
        while not job.lost:  # it may be endless
            try:
                chunk = next(chunks)
            except StopIteration as stop:
                return stop.value
            job.send_data(chunk)
    return None
