"""Runs workers, or what drives one, for the duration of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from geartrain.worker import Worker

WITHIN = 10.0  # seconds that a worker may take to stop


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Run workers until the end of the block, then stop them; yields the task of the first one."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield tasks[0]
    finally:
        for worker, task in zip(workers, tasks, strict=True):
            if not task.done():
                worker.stop()
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def beside(drive: Callable[[], None]) -> Iterator[None]:
    """Run something in another thread beside the block, which needs the main thread; fail with what it raises."""
    with ThreadPoolExecutor(1) as pool:
        driving = pool.submit(drive)
        yield
        driving.result(10)
