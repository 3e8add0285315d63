"""Many plain jobs that are sent together, without a future for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from geartrain.client.handles import make_handle
from geartrain.client.job import Job
from geartrain.client.plain import Plain
from geartrain.handle import JobHandle

if TYPE_CHECKING:
    from geartrain.client.link import Link
    from geartrain.client.task import Task

__all__ = ["MAX_IN_BULK", "Bulk"]

MAX_IN_BULK: Final = 65536  # bytes of a workload; all workloads of a bulk are kept until its last result is taken


class Bulk(Plain):
    """
    Jobs of one kind, sent to one job server in one turn, whose results are taken in their order.

    It is what makes ``map`` several times cheaper than as many awaited jobs.

    The core tells it of its jobs (`protocol.owners.Submissions`), which are known by their places.

    Args:
        link: The job server that they are sent to.
        task: What they have in common.
        workloads: What they differ in.
    """

    __slots__ = (
        "_awaited",
        "_link",
        "_places",
        "_results",
        "_taken",
        "_task",
        "_ticket",
        "_unanswered",
        "_uniques",
        "_workloads",
    )

    def __init__(self, link: Link, task: Task, workloads: Sequence[bytes]) -> None:
        self._link = link
        self._task = task
        self._workloads = workloads
        self._ticket: int | bytes | None = None
        self._uniques: Sequence[bytes] | None = None  # where they were generated
        self._results: list[bytes | Job | None] = [None] * len(workloads)  # for a background job, its handle
        self._places: dict[bytes, int] = {}  # by handle, of those that run
        self._unanswered = 0  # the place of the next that is given a handle
        self._taken = 0
        self._awaited: tuple[int, asyncio.Future[None]] | None = None  # a place, and who waits for its result

    # For whoever takes the results.

    def __len__(self) -> int:
        """How many were not taken yet."""
        return len(self._results) - self._taken

    def take(self, at_most: int) -> list[bytes | JobHandle | Job]:
        """Take what has ended of those next in order: results, handles of background jobs, jobs that had trouble."""
        results, begin = self._results, self._taken
        ended: list[bytes | JobHandle | Job] = []
        name, task, is_handle = self._link.name, self._task, self._task.background
        for result in results[begin : begin + at_most]:
            if isinstance(result, bytes):
                if is_handle:
                    ended.append(make_handle(name, result, task, self._unique_of(begin + len(ended))))
                else:
                    ended.append(result)
            elif result is not None and result.done():
                result._silence()  # the map may be left now, before its turn
                ended.append(result)
            else:
                break
        self._taken += len(ended)
        results[begin : self._taken] = [None] * len(ended)  # they may be long
        return ended

    def _unique_of(self, place: int) -> bytes | None:
        return self._uniques[place] if self._uniques is not None else None

    async def wait(self) -> None:
        """Wait until the next one has ended. Cancelling the wait leaves it as it is."""
        if self._results[self._taken] is None:
            waiting: asyncio.Future[None] = self._link.pool.loop.create_future()
            self._awaited = (self._taken, waiting)
            try:
                await waiting
            finally:
                self._awaited = None
        job = self._results[self._taken]
        if isinstance(job, Job) and not job.done():
            await asyncio.wait((job,))

    def cancel(self) -> Iterator[None]:
        """Forget those that have not ended, jobs that had trouble one by one."""
        link = self._link
        outstanding = len(self._places) + len(self._results) - self._unanswered
        if outstanding and link.protocol is not None:
            link.protocol.forget_all(self, self._places)
        link.cancelled += outstanding
        self._places.clear()
        self._unanswered = len(self._results)
        if link.alert:
            link.attend()
        for result in self._results:
            if isinstance(result, Job):
                result._drop()
                yield

    # What the protocol core tells. `_all_created` and `_completed` are all that a job costs here that goes well.

    @property
    def _lasts(self) -> bool:
        return not self._task.background

    def _all_created(self, handles: list[bytes]) -> None:
        begin = self._unanswered
        self._unanswered = end = begin + len(handles)
        if not self._task.background:
            self._places.update(zip(handles, range(begin, end), strict=True))
            return
        self._results[begin:end] = handles
        self._link.completed += len(handles)
        if self._awaited is not None and begin <= self._awaited[0] < end:
            self._wake(self._awaited[0])
        if self._link.alert:
            self._link.attend()

    def _completed(self, handle: bytes, data: bytes) -> None:
        link, place = self._link, self._places.pop(handle)
        self._results[place] = data
        link.completed += 1
        if self._awaited is not None:
            self._wake(place)
        if link.alert:
            link.attend()

    def _wake(self, place: int) -> None:
        if self._awaited is not None and place == self._awaited[0] and not self._awaited[1].done():
            self._awaited[1].set_result(None)

    # What does not go well.

    def _become_job(self, handle: bytes | None) -> Job:
        if handle is not None:
            return self._adopt(self._places.pop(handle), handle)
        self._unanswered += 1
        return self._adopt(self._unanswered - 1, None)

    def _adopt(self, place: int, handle: bytes | None) -> Job:
        """Put a job in the place of its result."""
        job = Job(self._task, self._workloads[place], self._link.pool)
        job._take_over(self._link, handle, self._unique_of(place))
        self._results[place] = job
        self._wake(place)
        return job
