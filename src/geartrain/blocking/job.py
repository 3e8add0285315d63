"""The future of one job, for any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from geartrain import Client as AsyncClient
from geartrain import Job as AsyncJob
from geartrain import JobHandle, JobUpdate, Mailbox, Task
from geartrain.blocking.loop_call import CoroutineCall
from geartrain.blocking.loop_thread import thread_has_ended
from geartrain.unpatched import is_patched

if TYPE_CHECKING:
    from types import TracebackType

    from geartrain.blocking.loop_thread import LoopThread
    from geartrain.blocking.resident import Resident

__all__ = ["Job", "iterate_as_completed", "start_job"]


class UpdateSource(Protocol):
    """The updates that a job of the asyncio client records."""

    async def take(self) -> list[JobUpdate]:
        """Wait for an update, and return all that have arrived; an empty list when the job has ended."""

    def close(self) -> None:
        """Let the connection go on."""


class Job(concurrent.futures.Future[bytes]):
    """
    A future of the result, ``bytes``. ``Client.add_task`` returns it. Any thread may use it.

    It works with :func:`concurrent.futures.wait`, :func:`concurrent.futures.as_completed` and
    :func:`asyncio.wrap_future`. Done callbacks run in geartrain's thread.

    Cancelling it makes the client discard the job. The worker is not notified; Gearman has no packet for that.

    If Ctrl-C interrupts a wait for the job, the job is cancelled.
    """

    def __init__(self, task: Task, client: Resident[AsyncClient]) -> None:
        super().__init__()
        self._task = task
        self._client = client
        self._thread: LoopThread = client.get_thread()
        self._job: AsyncJob | None = None  # once it is submitted
        self._recorded: RecordedUpdates | None = None
        self._process = os.getpid()
        self._failed_at: TracebackType | None = None

    @property
    def task(self) -> Task:
        """What was submitted."""
        return self._task

    @property
    def tries(self) -> int:
        """The number of tries begun; 1 from the start."""
        return self._job.tries if self._job is not None else 1

    @property
    def handle(self) -> JobHandle | None:
        """The job's name at its job server, or ``None`` until the job server has given one to this try."""
        return self._job.handle if self._job is not None else None

    @property
    def status(self) -> tuple[int | float, int | float] | None:
        """Numerator and denominator of the last WORK_STATUS of this try, or ``None``."""
        return self._job.status if self._job is not None else None

    def created(self, timeout: float | None = None) -> JobHandle:
        """
        Wait until a job server has accepted the job, and return its handle.

        Args:
            timeout: Seconds to wait. The job is not affected.

        Raises:
            TimeoutError: If that takes longer than ``timeout``.
            LocalProtocolError: If it is called in a callback.
            GearmanError: What ended the job before any job server accepted it.
            concurrent.futures.CancelledError: The job was cancelled before.
        """
        if (handle := self.handle) is not None:
            return handle
        self._thread.check_may_wait()
        self._wait_until_created(timeout)
        if (handle := self.handle) is not None:
            return handle
        self.result(0)
        raise AssertionError("a job has a handle or has ended")

    def _wait_until_created(self, timeout: float | None) -> None:
        if self.done():
            return
        try:
            self._wait_for(self._await_created, timeout)
        except TimeoutError:
            raise TimeoutError(f"the job was not accepted within {timeout} s") from None

    def _wait_for(self, wait: Callable[[], Coroutine[Any, Any, None]], timeout: float | None) -> None:
        """Wait in the event loop, and for that in this thread."""
        ended: Mailbox[None] = Mailbox()
        started = CoroutineCall(self._thread, wait, lambda _, __: ended.put(None))
        with self._canceling_when_interrupted():
            try:
                self._thread.start_call(started)
                ended.get(timeout)
            except BaseException:
                started.cancel()
                raise

    async def _await_created(self) -> None:
        if self._job is not None:
            await self._job.created()

    def updates(self) -> Iterator[JobUpdate]:
        """
        Iterate over the updates in wire order, until the job ends.

        The first call begins with the first update of the job, a later one with the next update.

        Raises:
            LocalProtocolError: If it is called in a callback, or if more than 65,536 updates or 32 MiB of data have
                arrived before the first was read.
        """
        self._thread.check_may_wait()
        recorded, self._recorded = self._recorded, None
        return self._iterate(recorded if recorded is not None else RecordedUpdates())

    def _iterate(self, recorded: RecordedUpdates) -> Iterator[JobUpdate]:
        try:
            with self._canceling_when_interrupted():
                while updates := self._thread.call(self._take, recorded):
                    yield from updates
        finally:
            self._thread.post(recorded.close)

    async def _take(self, recorded: RecordedUpdates) -> list[JobUpdate]:
        if self._job is None:  # it was never submitted
            return []
        return await recorded.take(self._job)

    # Future.

    def result(self, timeout: float | None = None) -> bytes:
        """
        Wait for the result and return it.

        Raises:
            TimeoutError: If that takes longer than ``timeout`` seconds. The job is not affected.
            concurrent.futures.CancelledError: The job was cancelled.
            LocalProtocolError: If the job has not ended, and this is called in a callback.
            GearmanError: What ended the job, as for :meth:`Client.do`.
        """
        error = self.exception(timeout)
        if error is None:
            return super().result()
        try:
            # Raising one object again and again would make its traceback longer each time.
            raise error.with_traceback(self._failed_at)
        finally:
            del error, self  # its traceback refers to this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end of the job, and return its error, or ``None``. Raises as :meth:`result`."""
        if not self.done():
            self._thread.check_may_wait()
            if is_patched():  # the wait of the base class would seem endless to gevent
                self._wait_for(self._await_end, timeout)
        with self._canceling_when_interrupted():
            return super().exception(timeout)

    async def _await_end(self) -> None:
        if self._job is not None:
            await asyncio.wait((self._job,))

    def cancel(self) -> bool:
        """Discard the job. ``on_fail`` is called with the ``CancelledError``; return whether it was outstanding."""
        if self.done() or not super().cancel():
            return False
        self._end_cancelled()
        self._thread.post(self._cancel_job)
        return True

    def set_result(self, result: bytes) -> NoReturn:
        """Raise ``RuntimeError``: only the job server ends a job."""
        raise RuntimeError("a Job does not support set_result")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Raise ``RuntimeError``: only the job server ends a job."""
        raise RuntimeError("a Job does not support set_exception")

    @contextlib.contextmanager
    def _canceling_when_interrupted(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.cancel()
            raise

    def _end_cancelled(self) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError, RuntimeError):
            self.set_running_or_notify_cancel()  # so that those in concurrent.futures.wait() wake up

    def start(self) -> None:
        """Have the event loop submit the job."""
        # Now, because in a process that is forked before the event loop gets there, nobody would end the job.
        self._client.outstanding.add(self)
        if not self._thread.post(self.begin):
            self.abandon(thread_has_ended())

    # In the event loop.

    def begin(self) -> None:
        """Submit the job."""
        if self.cancelled():
            self._client.outstanding.discard(self)
            return
        if not self._thread.is_usable:
            self.abandon(thread_has_ended())
            return
        try:
            job = self._client.instance.add_task(self._task)
        except Exception as error:  # noqa: BLE001  # the caller has returned, so it ends the job
            self.abandon(error)
            return
        self._job = job
        recorded = self._recorded = RecordedUpdates()
        recorded.begin(job)
        job.add_done_callback(self._on_done)

    def _on_done(self, job: AsyncJob) -> None:
        self._client.outstanding.discard(self)
        if self._thread.is_exiting:
            if not job.cancelled():
                job.exception()  # so that asyncio does not report it
        elif job.cancelled():
            if not self.done():
                super().cancel()
                self._end_cancelled()
        elif (error := job.exception()) is not None:
            self._fail(error)
        else:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # it was cancelled in this moment
                super().set_result(job.result())

    def _fail(self, error: BaseException) -> None:
        self._failed_at = error.__traceback__
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            super().set_exception(error)

    def _cancel_job(self) -> None:
        self._client.outstanding.discard(self)
        if self._job is not None:
            self._job.cancel()

    def abandon(self, error: Exception) -> None:
        """End the job with an error, unless it has ended: it can no longer be submitted, or its event loop is gone."""
        self._client.outstanding.discard(self)
        if self._thread.is_exiting:
            return
        if os.getpid() != self._process:
            self._condition = threading.Condition()  # a thread that does not exist in this process may hold the old one
        self._fail(error)


class RecordedUpdates:
    """The updates of a job from some moment on. Used in the event loop only."""

    def __init__(self) -> None:
        self._updates: UpdateSource | None = None

    def begin(self, job: AsyncJob) -> UpdateSource:
        """Record from now on."""
        self._updates = job.record_updates()
        return self._updates

    async def take(self, job: AsyncJob) -> list[JobUpdate]:
        """Return the next updates, or an empty list when the job has ended."""
        return await (self._updates or self.begin(job)).take()

    def close(self) -> None:
        """Let the connection go on."""
        if self._updates is not None:
            self._updates.close()


def start_job(task: Task, client: Resident[AsyncClient]) -> Job:
    """
    Submit a task, and return its job.

    Raises:
        ValueError: If the client cannot submit it.
    """
    client.instance.check_task(task)
    job = Job(task, client)
    try:
        job.start()
    except BaseException:  # Ctrl-C: nobody gets the job
        job.cancel()
        raise
    return job


def iterate_as_completed(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield jobs in the order in which they end; those that have ended come first."""
    ended: Mailbox[Job] = Mailbox()
    waiting = list(jobs)
    for job in waiting:
        job.add_done_callback(ended.put)  # type: ignore[arg-type]  # it is called with the job
    return (ended.get() for _ in waiting)
