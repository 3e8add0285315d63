"""What a ``map`` has submitted and not yielded yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from geartrain.client.bulk import Bulk
from geartrain.client.job import Job
from geartrain.handle import JobHandle

if TYPE_CHECKING:
    from geartrain.client.pool import Pool
    from geartrain.client.task import Task

__all__ = ["Outstanding"]


class Outstanding:
    """
    Jobs of one kind that were submitted and whose results were not taken yet, in the order of submission.

    Args:
        get_pool: Returns the client's pool, or raises if it cannot be used from here.
        task: What the jobs have in common.
    """

    def __init__(self, get_pool: Callable[[], Pool], task: Task) -> None:
        self._get_pool = get_pool
        self._task = task
        self._pool: Pool | None = None  # in which jobs were submitted
        self._parts: deque[Bulk | Job] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> Job | None:
        """The job whose result comes next, where jobs are submitted one by one."""
        return self._parts[0] if self._parts and isinstance(self._parts[0], Job) else None

    def submit(self, workloads: list[bytes]) -> None:
        """
        Submit a job for each workload, together where that can be done.

        Raises:
            ValueError: If a workload is too long; the jobs for those before it have been submitted.
        """
        pool = self._pool = self._get_pool()
        bulk = pool.submit_many(self._task, workloads) if len(workloads) > 1 else None
        if bulk is not None:
            self._parts.append(bulk)
            self._count += len(workloads)
            return
        for workload in workloads:  # the jobs before one that is refused are submitted, and have results
            self._parts.append(pool.submit(self._task, workload))
            self._count += 1

    def take(self, at_most: int) -> list[bytes | JobHandle | Job]:
        """Take what has ended of those next in order; a job where it was one, or had trouble."""
        taken: list[bytes | JobHandle | Job] = []
        while self._parts and len(taken) < at_most:
            first = self._parts[0]
            if isinstance(first, Job):
                if not first.done():
                    break
                first._silence()  # the map may be left now, before its turn
                taken.append(first)
                self._parts.popleft()
            else:
                ended = first.take(at_most - len(taken))
                taken += ended
                if len(first):
                    break
                self._parts.popleft()
        self._count -= len(taken)
        return taken

    async def wait(self) -> None:
        """Wait until the next one has ended."""
        first = self._parts[0]
        if isinstance(first, Job):
            await asyncio.wait((first,))
        else:
            await first.wait()

    def cancel(self) -> None:
        """Forget all that have not ended, a slice at a time where they are many."""
        if self._pool is not None:
            self._pool.slices.add(self._cancel_each())

    def _cancel_each(self) -> Iterator[None]:
        for part in self._parts:
            if isinstance(part, Job):
                part._drop()
                yield
            else:
                yield from part.cancel()
