"""The future of one job, as users hold it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from geartrain.client.submission import Submission
from geartrain.client.task import Task
from geartrain.client.updates import UpdateStream
from geartrain.printable import printable

if TYPE_CHECKING:
    from geartrain.client.submission import SubmissionScheduler
    from geartrain.client.task_spec import TaskSpec
    from geartrain.handle import JobHandle

__all__ = ["Job", "create_job", "submission_of"]


class Job(asyncio.Future[bytes]):
    """
    A future of the result, ``bytes``. ``Client.add_task`` returns it.

    Besides what a future does, ``async for update in job`` yields :class:`JobData`, :class:`JobWarning` and
    :class:`JobProgress` as they arrive, until the job ends.

    Cancelling it makes the client discard the job. The worker is not notified; Gearman has no packet for that.
    """

    # There is no __init__: in Python it would add a twelfth to the cost of `submit`.
    __slots__ = ("_submission", "_task")

    _submission: Submission
    _task: Task | None

    @property
    def task(self) -> Task:
        """What was submitted."""
        if self._task is None:
            self._task = self._submission.task
        return self._task

    @property
    def tries(self) -> int:
        """The number of tries begun; 1 from the start."""
        return self._submission.tries

    @property
    def handle(self) -> JobHandle | None:
        """The job's name at its job server, or ``None`` until the job server has given one to this try."""
        return self._submission.handle

    @property
    def status(self) -> tuple[int | float, int | float] | None:
        """Numerator and denominator of the last WORK_STATUS of this try, or ``None``."""
        return self._submission.status

    async def created(self) -> JobHandle:
        """
        Wait until a job server has accepted the job, and return its handle.

        Cancelling the wait leaves the job as it is.

        Raises:
            LocalProtocolError: If it is awaited in another loop than the client's.
            GearmanError: What ended the job before any job server accepted it.
            asyncio.CancelledError: The job was cancelled before.
        """
        self._submission.scheduler.runtime.check_job_access()
        if (handle := self.handle) is not None:
            return handle
        if self.done():
            self.result()
        details = self._submission.get_details()
        if details.created is None:
            details.created = self.get_loop().create_future()
        return await asyncio.shield(details.created)

    def __aiter__(self) -> UpdateStream:
        return self._add_updates(UpdateStream(self))

    def record_updates(self) -> UpdateStream:
        """
        Return a stream that buffers updates from now on, for a consumer that may come later, or never.

        Unlike ``aiter(job)`` it does not stop the connection until it is first read. If more than 65,536 updates or
        32 MiB of data have arrived by then, they are dropped, and reading raises :class:`LocalProtocolError`.

        Raises:
            LocalProtocolError: If it is called in another thread or loop than the client's.
        """
        return self._add_updates(UpdateStream(self, is_recording=True))

    def _add_updates(self, updates: UpdateStream) -> UpdateStream:
        self._submission.scheduler.runtime.check_job_access()
        if not self.done():
            self._submission.get_details().add_updates(updates)
        return updates

    def cancel(self, msg: object | None = None) -> bool:
        """
        Discard the job. ``on_fail`` is called with the ``CancelledError``; return whether the job was outstanding.

        Raises:
            LocalProtocolError: If it is called in another thread or loop than the client's.
        """
        if self.done():
            return False
        self._submission.scheduler.runtime.check_job_access()
        return self._submission.cancel(msg)

    def set_result(self, result: object) -> NoReturn:
        """Raise ``RuntimeError``: only the job server ends a job."""
        raise RuntimeError("a Job does not support set_result")

    def set_exception(self, exception: object) -> NoReturn:
        """Raise ``RuntimeError``: only the job server ends a job."""
        raise RuntimeError("a Job does not support set_exception")

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "outstanding"
        handle = printable(str(self.handle or "without a handle"))
        return f"<Job {printable(self._submission.function)} {handle} {state}>"


def create_job(spec: TaskSpec, workload: bytes, scheduler: SubmissionScheduler, task: Task | None = None) -> Job:
    """
    Return a job that has not been submitted yet.

    Args:
        spec: The task without its workload.
        workload: Bytes.
        scheduler: Submits it, now and for each retry.
        task: The job's ``task``; if ``None``, it is built from the other two on first use.
    """
    job = Job(loop=scheduler.runtime.loop)
    job._task = task
    job._submission = Submission(job, spec, workload, scheduler)
    return job


def submission_of(job: Job) -> Submission:
    """Return the record of a job."""
    return job._submission
