"""Runs jobs in asyncio tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from geartrain.worker.forked import ProcessId, exit_forked_copy
from geartrain.worker.job import WorkerJob, encode_result
from geartrain.worker.results import PLAIN_TYPES, needs_loop, resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextvars import Context

    from geartrain.worker.function import Invoker
    from geartrain.worker.guard import Guard
    from geartrain.worker.outcomes import Outcomes
    from geartrain.worker.running_job import RunningJob

__all__ = ["TaskRunner"]


class TaskRunner:
    """
    Runs each job in an asyncio task: coroutine functions, and all functions if there is middleware.

    Args:
        guard: Held while an outcome is sent.
        outcomes: Sends the outcomes.
        on_job_ended: Called when a job has ended and its slot is free.
    """

    def __init__(self, guard: Guard, outcomes: Outcomes, on_job_ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = ProcessId.current
        self._guard = guard
        self._outcomes = outcomes
        self._on_job_ended = on_job_ended
        self._tasks: dict[RunningJob, asyncio.Task[None]] = {}
        self._is_aborted = False

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._tasks)

    def start(self, running: RunningJob, job: WorkerJob, invoke: Invoker, context: Context) -> None:
        """Run a job that has a slot, in this context. An eager task runs immediately, so the lock must not be held."""
        task = self._loop.create_task(self._run(running, job, invoke), context=context)
        if not task.done():  # an eager task may have ended
            self._tasks[running] = task

    def abort(self) -> list[asyncio.Task[None]]:
        """Cancel all jobs and return their tasks. The connections must be closed: no outcome may be sent."""
        self._is_aborted = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        return tasks

    def close(self) -> None:
        """Count the jobs that were cancelled before their task began as lost."""
        for running in self._tasks:
            running.count("lost")
        self._tasks.clear()

    async def _run(self, running: RunningJob, job: WorkerJob, invoke: Invoker) -> None:
        try:
            result = await invoke(job)
            if ProcessId.current != self._process:
                exit_forked_copy(None)
            if type(result) not in PLAIN_TYPES and needs_loop(result):
                result = await resolve(result, job)
            data = encode_result(job.function, result)
            with self._guard.lock:
                self._outcomes.complete(running, data)
        except BaseException as error:
            if ProcessId.current != self._process:
                exit_forked_copy(error)
            # The job must end here whatever the function raised: if sys.exit() ended the worker, the job server would
            # give the job to the next worker and end that one as well. A panic in a Rust extension is no Exception.
            if self._comes_from_outside(running, error):
                running.count("lost")
                raise
            self._fail(running, job, error)
        finally:
            running.has_ended = True
            self._tasks.pop(running, None)
            if running.orphaned_thread is None:
                self._on_job_ended()
            else:
                running.orphaned_thread.add_done_callback(self._on_orphaned_thread_ended)

    def _comes_from_outside(self, running: RunningJob, error: BaseException) -> bool:
        """Return whether the function did not raise this itself: the worker or its event loop is ending."""
        kind = type(error)  # isinstance() would trust a __class__ that the exception defines
        if issubclass(kind, asyncio.CancelledError | KeyboardInterrupt):
            return self._is_aborted
        if issubclass(kind, GeneratorExit):  # a pending task is destroyed, with a loop that was closed too early
            task = self._tasks.get(running)
            return task is not None and task is not asyncio.current_task(self._loop)
        return False

    def _fail(self, running: RunningJob, job: WorkerJob, error: BaseException) -> None:
        try:
            self._outcomes.log(job, error)
        finally:  # a log handler may raise
            failure = self._outcomes.describe(error)
            with self._guard.lock:
                self._outcomes.fail(running, failure)

    def _on_orphaned_thread_ended(self, _: Future[Any]) -> None:
        """Free the slot of a job whose thread has outlived it. Called in that thread."""
        self._on_job_ended()
