"""Runs workers for the duration of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
