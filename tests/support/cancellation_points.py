"""Cancels a coroutine at each of the points where it can be cancelled."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

WITHIN = 10.0  # seconds that anything may take, cancelled or not

Moment = Callable[[Awaitable[Any], int], Awaitable[bool]]
"""Begins a coroutine and cancels it at the n-th of its moments; returns whether it was still running then."""


async def at_turn(begun: Awaitable[Any], number: int) -> bool:
    """Cancel after ``number`` turns of the loop, so also while what the coroutine has begun is waited for."""
    task = asyncio.ensure_future(begun)
    for _ in range(number):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    return await _end(task, lambda: cancelled)


async def at_wakeup(begun: Awaitable[Any], number: int) -> bool:
    """
    Cancel when what the coroutine waits for at its suspension ``number`` has come, and before the coroutine hears it.

    Whatever came is then known to nobody but the future that it came in.
    """
    loop = asyncio.get_running_loop()
    suspensions = 0
    cancelled = False

    def cancel(_: object = None) -> None:
        nonlocal cancelled
        cancelled = task.cancel() or cancelled

    def suspended(future: asyncio.Future[Any] | None) -> None:
        nonlocal suspensions
        if suspensions == number:
            if future is None:
                loop.call_soon(cancel)
            else:
                future.add_done_callback(cancel)  # in front of the task's own
        suspensions += 1

    task = loop.create_task(_run(_watched(begun, suspended)))
    return await _end(task, lambda: cancelled)


MOMENTS: dict[str, Moment] = {"turn": at_turn, "wake-up": at_wakeup}


@types.coroutine
def _watched(
    begun: Awaitable[Any], suspended: Callable[[asyncio.Future[Any] | None], None]
) -> Generator[Any, None, Any]:
    """Run a coroutine, and tell at each suspension what it waits for, ``None`` for the next turn of the loop."""
    steps = begun.__await__()
    error: BaseException | None = None
    while True:
        try:
            future = next(steps) if error is None else steps.throw(error)
        except StopIteration as stop:
            return stop.value
        suspended(future)
        error = None
        try:
            yield future
        except BaseException as caught:  # noqa: BLE001  # it is handed on
            error = caught


async def _run(begun: Awaitable[Any]) -> Any:
    return await begun


async def _end(task: asyncio.Future[Any], was_cancelled: Callable[[], bool]) -> bool:
    """Wait for the end; see that what was cancelled is, and what was not succeeds."""
    async with asyncio.timeout(WITHIN):
        await asyncio.wait([task])
    if not was_cancelled():
        task.result()
        return False
    assert task.cancelled(), f"it was cancelled, and went on to {task!r}"
    return True
