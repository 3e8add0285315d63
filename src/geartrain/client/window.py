"""The jobs that a ``map`` has submitted but not yet yielded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from geartrain.client.submission import Submission
from geartrain.client.submission_batch import SubmissionBatch, TrackedJob
from geartrain.handle import JobHandle

if TYPE_CHECKING:
    from geartrain.client.dispatcher import Dispatcher
    from geartrain.client.task_spec import TaskSpec

__all__ = ["SubmissionWindow"]


class SubmissionWindow:
    """
    Jobs of one kind that were submitted and whose results were not taken yet, in the order of submission.

    Args:
        get_dispatcher: Returns the client's dispatcher, or raises if the client cannot be used from here.
        spec: The task without its workload.
    """

    def __init__(self, get_dispatcher: Callable[[], Dispatcher], spec: TaskSpec) -> None:
        self._get_dispatcher = get_dispatcher
        self._spec = spec
        self._dispatcher: Dispatcher | None = None  # that has submitted jobs
        self._parts: deque[SubmissionBatch | TrackedJob] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def first(self) -> asyncio.Future[bytes] | None:
        """The job whose result comes next, if jobs are submitted one by one."""
        return self._parts[0].future if self._parts and isinstance(self._parts[0], TrackedJob) else None

    def submit(self, workloads: list[bytes]) -> None:
        """
        Submit a job for each workload, together if possible.

        Raises:
            ValueError: If a workload is too long; the jobs for those before it have been submitted.
        """
        dispatcher = self._dispatcher = self._get_dispatcher()
        batch = dispatcher.submit_batch(self._spec, workloads) if len(workloads) > 1 else None
        if batch is not None:
            self._parts.append(batch)
            self._count += len(workloads)
            return
        for workload in workloads:
            future: asyncio.Future[bytes] = dispatcher.runtime.loop.create_future()
            submission = Submission(future, self._spec, workload, dispatcher)
            dispatcher.start(submission)
            self._parts.append(TrackedJob(future, submission))
            self._count += 1

    def take(self, at_most: int) -> list[bytes | JobHandle | TrackedJob]:
        """Remove and return the outcomes of the next jobs in order, as far as they have ended."""
        taken: list[bytes | JobHandle | TrackedJob] = []
        while self._parts and len(taken) < at_most:
            first = self._parts[0]
            if isinstance(first, TrackedJob):
                if not first.future.done():
                    break
                first.mark_retrieved()
                taken.append(first)
                self._parts.popleft()
            else:
                taken += first.take(at_most - len(taken))
                if len(first):
                    break
                self._parts.popleft()
        self._count -= len(taken)
        return taken

    async def wait(self) -> None:
        """Wait until the next one has ended."""
        first = self._parts[0]
        if isinstance(first, TrackedJob):
            await asyncio.wait((first.future,))
        else:
            await first.wait()

    def cancel(self) -> None:
        """Discard all that have not ended, in slices."""
        if self._dispatcher is not None:
            self._dispatcher.runtime.slices.add(self._cancel_each())

    def _cancel_each(self) -> Iterator[None]:
        for part in self._parts:
            if isinstance(part, TrackedJob):
                part.abandon()
                yield
            else:
                yield from part.cancel()
