"""Runs jobs in threads, which send the outcomes themselves."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from geartrain.errors import JobFailedError
from geartrain.protocol.timer_queue import TimerQueue
from geartrain.protocol.worker import check_size
from geartrain.worker.forked import exit_forked_copy
from geartrain.worker.job import encode_result
from geartrain.worker.results import PLAIN_TYPES, needs_loop, resolve_outcome

if TYPE_CHECKING:
    from geartrain.worker.executors import BlockingCall
    from geartrain.worker.function import Function
    from geartrain.worker.guard import Guard
    from geartrain.worker.job import WorkerJob
    from geartrain.worker.observer import RunObserver
    from geartrain.worker.outcomes import Outcomes
    from geartrain.worker.running_job import RunningJob
    from geartrain.worker.thread_pool import Threads

__all__ = ["ThreadRunner"]

_Outcome: TypeAlias = tuple[object, BaseException | None]  # a result, or what was raised

_MOST_EXPIRED: Final = 250  # jobs that are ended in one turn of the event loop


class _ThreadJob:
    """A job in a thread."""

    __slots__ = ("call", "job", "resolving", "running")

    def __init__(self, call: BlockingCall, running: RunningJob, job: WorkerJob) -> None:
        self.call = call
        self.running = running
        self.job = job
        self.resolving: asyncio.Task[_Outcome] | None = None  # resolves what the function has returned


class ThreadRunner:
    """
    Runs each job in a thread: functions that may block, without middleware.

    The thread that ran a job sends its result and the next GRAB_JOB. Waking the event loop for that would cost more
    than all the rest. Timeouts share one timer.

    Args:
        guard: Held while an outcome is sent.
        outcomes: Sends the outcomes.
        threads: Returns the threads.
        release: Called under the lock to free the slot of a job.
        observer: Notified of the jobs.
    """

    def __init__(
        self,
        guard: Guard,
        outcomes: Outcomes,
        threads: Callable[[], Threads],
        release: Callable[[], None],
        observer: RunObserver | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._guard = guard
        self._outcomes = outcomes
        self._get_threads = threads
        self._release = release
        self._observer = observer
        self._running: set[_ThreadJob] = set()
        self._deadlines: TimerQueue[_ThreadJob] = TimerQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._running)

    # Called under the lock.

    def start(self, call: BlockingCall, running: RunningJob, job: WorkerJob, context: Context) -> None:
        """Run a job that has a slot, in this context."""
        item = _ThreadJob(call, running, job)
        self._running.add(item)
        if call.function.timeout is not None:
            due = self._loop.time() + call.function.timeout
            self._deadlines.set(item, due)
            if due < self._timer_due:
                self._guard.deferred.append(self._set_timer)
        if self._observer is not None:
            self._observer.on_job_started(running, call.function.timeout)
        call.prepare(job)
        self._get_threads().execute(partial(self._run, item, context))

    def _end(self, item: _ThreadJob) -> bool:
        """End a job; return whether it had not ended before, so that its outcome must be sent."""
        self._running.discard(item)
        if item.call.function.timeout is not None:
            self._deadlines.cancel(item)
        if item.running.has_ended:
            return False
        item.running.has_ended = True
        return True

    # In the thread of a job.

    def _run(self, item: _ThreadJob, context: Context) -> None:
        try:
            result = context.run(item.call.run, item.job)
            if os.getpid() != self._process:
                exit_forked_copy(None)
            if type(result) not in PLAIN_TYPES and needs_loop(result):
                self._resolve_soon(item, result, context)
                return
            data = _encode(item, result)
        except BaseException as error:  # the job must end, whatever the function raised
            if os.getpid() != self._process:
                exit_forked_copy(error)
            if isinstance(error, self._get_threads().interrupts):
                raise  # the run is about to be cancelled, and gives the job back
            self._fail(item, error)
        else:
            self._complete(item, data)

    def _complete(self, item: _ThreadJob, data: bytes) -> None:
        guard = self._guard
        with guard.lock:
            if self._end(item):
                self._outcomes.complete(item.running, data)
            self._release()
            item.running.session.connection.flush()
            if self._observer is not None:
                self._observer.on_job_ended(item.running)
        if guard.deferred:
            guard.run_deferred()

    def _fail(self, item: _ThreadJob, error: BaseException) -> None:
        with self._guard.lock:
            had_not_ended = self._end(item)
        try:
            if had_not_ended:
                self._report(item, error)
        finally:  # a log handler may raise
            with self._guard:
                self._release()
                item.running.session.connection.flush()
                if self._observer is not None:
                    self._observer.on_job_ended(item.running)

    def _report(self, item: _ThreadJob, error: BaseException) -> None:
        """Log an exception and send it to the client."""
        try:
            self._outcomes.log(item.job, error)
        finally:
            failure = self._outcomes.describe(error)
            with self._guard.lock:
                self._outcomes.fail(item.running, failure)
                item.running.session.connection.flush()

    def _resolve_soon(self, item: _ThreadJob, result: object, context: Context) -> None:
        try:
            self._loop.call_soon_threadsafe(self._start_resolving, item, result, context, context=Context())
        except RuntimeError as error:  # the event loop is closed: the thread has outlived the worker
            self._fail(item, error)

    # In the event loop.

    def _start_resolving(self, item: _ThreadJob, result: object, context: Context) -> None:
        """Wait for an awaitable or an async generator that a function has returned."""
        task = self._loop.create_task(resolve_outcome(result, item.job), context=context)
        item.resolving = task
        # A task that is cancelled before its first step runs nothing, so the job cannot end in the task itself.
        task.add_done_callback(partial(self._on_resolved, item, result), context=Context())
        if item.running.has_ended:  # it has timed out
            task.cancel()

    def _on_resolved(self, item: _ThreadJob, unresolved: object, task: asyncio.Task[_Outcome]) -> None:
        if inspect.iscoroutine(unresolved):
            unresolved.close()  # it may never have started
        try:
            result, error = task.result()
            data = _encode(item, result) if error is None else b""
        except BaseException as failure:  # noqa: BLE001  # the job must end, whatever the function raised
            error, data = failure, b""
        if os.getpid() != self._process:
            exit_forked_copy(error)
        if error is None:
            self._complete(item, data)
        else:
            self._fail(item, error)

    def _set_timer(self) -> None:
        """Have the timer run at the next deadline."""
        with self._guard.lock:
            due = self._deadlines.next
        if due is None or due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._on_timer, context=Context())

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        with self._guard.lock:
            due = self._deadlines.take_due(self._loop.time(), _MOST_EXPIRED)
            expired = [item for item in due if self._end(item)]
            if expired and self._observer is not None:
                self._observer.on_job_expired()
        self._set_timer()
        for item in expired:
            self._loop.call_soon(self._expire, item, context=Context())  # one may raise, because a log handler may

    def _expire(self, item: _ThreadJob) -> None:
        if item.resolving is not None:
            item.resolving.cancel()
        item.call.cancel(item.job)
        try:
            self._report(item, _make_timeout_error(item.call.function))
        finally:  # a log handler may raise
            if self._observer is not None:
                self._observer.on_expired_job_reported(item.running)

    def abort(self) -> list[asyncio.Task[_Outcome]]:
        """
        End all jobs and return the tasks that are left. The connections must be closed: no outcome may be sent.

        Threads cannot be stopped.
        """
        if self._timer is not None:
            self._timer.cancel()
        with self._guard.lock:
            items = [item for item in list(self._running) if self._end(item)]
        for item in items:
            item.running.count("lost")
        tasks = [item.resolving for item in items if item.resolving is not None]
        for task in tasks:
            task.cancel()
        return tasks


def _make_timeout_error(function: Function) -> Exception:
    error = function.make_timeout_error()
    return JobFailedError(str(error)) if function.on_timeout == "fail" else error


def _encode(item: _ThreadJob, result: object) -> bytes:
    """Encode a result; raise TypeError or JobTooLargeError if it cannot be sent."""
    data = encode_result(item.job.function, result)
    check_size("result", data, item.running.max_packet_size)
    return data
