"""The jobs of a ``map``, without a future and a record for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from geartrain.client.submission import Submission, SubmissionHolder
from geartrain.client.submission_details import MAX_REASON
from geartrain.handle import JobHandle
from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from geartrain.client.submission import SubmissionScheduler
    from geartrain.client.task_spec import TaskSpec

__all__ = ["MAX_BATCHED_WORKLOAD", "BatchServer", "SubmissionBatch", "TrackedJob"]

MAX_BATCHED_WORKLOAD: Final = 65536  # bytes; all workloads of a batch are kept until its last result is taken


class TrackedJob(NamedTuple):
    """A job of a map that has its own record, and the future that it ends."""

    future: asyncio.Future[bytes]
    submission: Submission

    def mark_retrieved(self) -> None:
        """Keep asyncio from logging its error as never retrieved: the map may be left before its turn."""
        if not self.future.cancelled():
            self.future.exception()

    def abandon(self) -> None:
        """Discard the job, or its error if it has ended."""
        if not self.submission.cancel():
            self.mark_retrieved()


class BatchServer(SubmissionHolder, Protocol):
    """What a batch uses of its job server."""

    def forget_batch(self, batch: SubmissionBatch, handles: Sequence[bytes]) -> None:
        """Drop what still arrives for the jobs of a batch: those with these handles, and those without one yet."""


class SubmissionBatch:
    """
    Jobs of one kind, sent to one job server in one turn, whose results are taken in their order.

    This is the only other form of a submission. It makes ``map`` several times cheaper than separately awaited jobs: of
    a job that succeeds it keeps only the result. Any other job gets a :class:`Submission`, as if it had had one from
    the start, and fails or is retried like all jobs.

    The protocol core reports to it as a ``BatchHandler``. A job is identified by its place in the batch.

    Args:
        server: The job server that they are sent to.
        spec: The task without its workload.
        workloads: One for each job.
        scheduler: Where retries go.
        uniques: A generated one for each job, or ``None``.
    """

    __slots__ = (
        "_created",
        "_handles",
        "_results",
        "_scheduler",
        "_server",
        "_spec",
        "_taken",
        "_uniques",
        "_waiter",
        "_warnings",
        "_workloads",
        "expects",
        "expects_results",
        "merges",
        "ticket",
    )

    def __init__(
        self,
        server: BatchServer,
        spec: TaskSpec,
        workloads: Sequence[bytes],
        scheduler: SubmissionScheduler,
        uniques: Sequence[bytes] | None,
    ) -> None:
        self.expects: PacketType = PacketType.JOB_CREATED
        self.merges: bool = False
        self.expects_results: bool = not spec.options.background
        self.ticket: int | bytes | None = None  # of the last one; set by the core
        self._server = server
        self._spec = spec
        self._workloads = workloads
        self._scheduler = scheduler
        self._uniques = uniques
        self._results: list[bytes | TrackedJob | None] = [None] * len(workloads)  # for a background job, its handle
        self._handles: dict[bytes, int] = {}  # the places of those that run
        self._created = 0  # the number of jobs with a reply, so the place of the next
        self._taken = 0
        self._warnings: dict[bytes, bytes] | None = None  # the last one of a job, by handle
        self._waiter: tuple[int, asyncio.Future[None]] | None = None  # a place, and who waits for its result

    # Results.

    def __len__(self) -> int:
        """The number of jobs whose results were not taken yet."""
        return len(self._results) - self._taken

    def take(self, at_most: int) -> list[bytes | JobHandle | TrackedJob]:
        """Remove and return the next outcomes in order: results, handles of background jobs, and tracked jobs."""
        results, begin = self._results, self._taken
        ended: list[bytes | JobHandle | TrackedJob] = []
        expects_results = self.expects_results
        for result in results[begin : begin + at_most]:
            if isinstance(result, bytes):
                ended.append(result if expects_results else self._make_handle(result, begin + len(ended)))
            elif result is not None and result.future.done():
                result.mark_retrieved()
                ended.append(result)
            else:
                break
        self._taken += len(ended)
        results[begin : self._taken] = [None] * len(ended)  # they may be long
        return ended

    def _make_handle(self, handle: bytes, place: int) -> JobHandle:
        unique = self._unique_of(place) or self._spec.unique or b""
        return JobHandle(
            self._server.name,
            handle.decode("utf-8", "surrogateescape"),
            self._spec.function,
            unique.decode("utf-8", "surrogateescape"),
        )

    def _unique_of(self, place: int) -> bytes | None:
        return self._uniques[place] if self._uniques is not None else None

    async def wait(self) -> None:
        """Wait until the next one has ended. It is safe to cancel the wait."""
        if self._results[self._taken] is None:
            waiter: asyncio.Future[None] = self._scheduler.runtime.loop.create_future()
            self._waiter = (self._taken, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
        job = self._results[self._taken]
        if isinstance(job, TrackedJob) and not job.future.done():
            await asyncio.wait((job.future,))

    def cancel(self) -> Iterator[None]:
        """Discard the jobs that have not ended, tracked jobs one by one."""
        server = self._server
        outstanding = len(self._handles) + len(self._results) - self._created
        if outstanding:
            server.forget_batch(self, list(self._handles))
        server.counters.cancelled += outstanding
        self._handles.clear()
        self._created = len(self._results)
        if server.needs_advance:
            server.advance()
        for result in self._results:
            if isinstance(result, TrackedJob):
                result.abandon()
                yield

    # Protocol callbacks of jobs that succeed. Only `on_all_created` and `on_complete` are on the hot path.

    def on_all_created(self, handles: list[bytes]) -> None:
        """Handle JOB_CREATED for the next jobs."""
        begin = self._created
        self._created = end = begin + len(handles)
        if self.expects_results:
            self._handles.update(zip(handles, range(begin, end), strict=True))
            return
        self._results[begin:end] = handles
        self._server.counters.completed += len(handles)
        if self._waiter is not None and begin <= self._waiter[0] < end:
            self._wake_up(self._waiter[0])
        if self._server.needs_advance:
            self._server.advance()

    def on_complete(self, handle: bytes, data: bytes) -> None:
        """Handle WORK_COMPLETE."""
        server, place = self._server, self._handles.pop(handle)
        self._results[place] = data
        server.counters.completed += 1
        if self._waiter is not None:
            self._wake_up(place)
        if server.needs_advance:
            server.advance()

    def on_data(self, data: bytes) -> None:
        """Ignore WORK_DATA, which a map does not use."""

    def on_warning(self, handle: bytes, data: bytes) -> None:
        """Remember WORK_WARNING: it may be the reason of a WORK_FAIL that follows."""
        if self._warnings is None:
            self._warnings = {}
        self._warnings[handle] = data[:MAX_REASON]

    def on_status(self, numerator: bytes, denominator: bytes) -> None:
        """Ignore WORK_STATUS, which a map does not use."""

    # Protocol callbacks of other jobs. Each job gets a submission, which handles the packet.

    def on_fail(self, handle: bytes) -> None:
        """Handle WORK_FAIL."""
        self._promote(handle).on_fail(handle)

    def on_exception(self, handle: bytes, data: bytes) -> None:
        """Handle WORK_EXCEPTION."""
        self._promote(handle).on_exception(handle, data)

    def on_too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        """Handle a result or update over the limit."""
        self._promote(handle).on_too_large(handle, kind, size)

    def on_unknown(self, handle: bytes) -> None:
        """Handle a job server that no longer knows a job."""
        self._promote(handle).on_unknown(handle)

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Handle ERROR in place of JOB_CREATED."""
        self._promote(None).on_refused(code, text)

    def on_connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        """Handle the loss of the connection over which a job was sent."""
        self._promote(handle).on_connection_lost(handle, error)

    def on_disconnected(self, handle: bytes | None) -> None:
        """End a job because the client was disconnected."""
        self._promote(handle).on_disconnected(handle)

    def _promote(self, handle: bytes | None) -> Submission:
        """Give a job its own submission: the one with this handle, or else the first that has none yet."""
        if handle is None:
            place = self._created
            self._created += 1
        else:
            place = self._handles.pop(handle)
        future: asyncio.Future[bytes] = self._scheduler.runtime.loop.create_future()
        submission = Submission(future, self._spec, self._workloads[place], self._scheduler)
        warning = None if self._warnings is None or handle is None else self._warnings.pop(handle, None)
        submission.adopt(self._server, handle, self._unique_of(place), warning)
        self._results[place] = TrackedJob(future, submission)
        self._wake_up(place)
        return submission

    def _wake_up(self, place: int) -> None:
        if self._waiter is not None and place == self._waiter[0] and not self._waiter[1].done():
            self._waiter[1].set_result(None)
