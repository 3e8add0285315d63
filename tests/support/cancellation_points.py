"""Cancels a coroutine at each of the points where it can be cancelled."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

WITHIN = 10.0  # seconds that anything may take, cancelled or not

Canceller = Callable[[Awaitable[Any], int], Awaitable[bool]]
"""Starts a coroutine and cancels it at its n-th cancellation point; returns whether it was still running."""


async def at_turn(begun: Awaitable[Any], number: int) -> bool:
    """Cancel after ``number`` iterations of the loop, wherever the coroutine is then."""
    task = asyncio.ensure_future(begun)
    for _ in range(number):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    return await _end(task, lambda: cancelled)


async def at_wakeup(begun: Awaitable[Any], number: int) -> bool:
    """
    Cancel when the future of suspension ``number`` is done, but before the coroutine resumes.

    At that point only the future holds the result.
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
                future.add_done_callback(cancel)  # ahead of the task's own callback
        suspensions += 1

    task = loop.create_task(_run(_watched(begun, suspended)))
    return await _end(task, lambda: cancelled)


CANCELLERS: dict[str, Canceller] = {"turn": at_turn, "wake-up": at_wakeup}


@types.coroutine
def _watched(
    begun: Awaitable[Any], suspended: Callable[[asyncio.Future[Any] | None], None]
) -> Generator[Any, None, Any]:
    """Run a coroutine, and report the future of each suspension (``None`` for a bare yield to the loop)."""
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
        except BaseException as caught:  # noqa: BLE001  # thrown into the coroutine
            error = caught


async def _run(begun: Awaitable[Any]) -> Any:
    return await begun


async def _end(task: asyncio.Future[Any], was_cancelled: Callable[[], bool]) -> bool:
    """Wait until the task is done; check that it is cancelled if requested, and successful otherwise."""
    async with asyncio.timeout(WITHIN):
        await asyncio.wait([task])
    if not was_cancelled():
        task.result()
        return False
    assert task.cancelled(), f"the task ignored its cancellation: {task!r}"
    return True
