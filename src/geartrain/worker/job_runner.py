"""Runs jobs in asyncio tasks and sends their outcomes."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from geartrain.errors import JobFailedError
from geartrain.worker.exceptions import format_exception, log_exception, type_name
from geartrain.worker.forked import ProcessId, exit_forked_copy
from geartrain.worker.invocation import build_invoker
from geartrain.worker.job import WorkerJob, encode_result
from geartrain.worker.results import PLAIN_TYPES, needs_loop, resolve
from geartrain.worker.running_job import RunningJob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from geartrain.protocol.worker import Assignment
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.executors import Executors
    from geartrain.worker.function import Function, Invoker
    from geartrain.worker.session import WorkerSession

__all__ = ["JobRunner"]


class JobRunner:
    """
    Runs each job in an asyncio task, in a copy of the ``contextvars`` context in which this object was created.

    Args:
        config: The worker's options.
        functions: The worker's functions, by ability.
        executors: Run what may block.
        on_job_ended: Called when a job has ended and its slot is free.
    """

    def __init__(
        self,
        config: WorkerConfig,
        functions: Mapping[bytes, Function],
        executors: Executors,
        on_job_ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = ProcessId.current
        self._config = config
        self._functions = functions
        self._executors = executors
        self._invokers: dict[bytes, Invoker] = {}
        self._on_job_ended = on_job_ended
        self._context = copy_context()
        self._tasks: dict[RunningJob, asyncio.Task[None]] = {}
        self._is_aborted = False

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._tasks)

    def start(self, session: WorkerSession, assignment: Assignment) -> None:
        """Run a job that has a slot."""
        if self._is_aborted:
            return  # it arrived while the connections were being closed, and is given back with them
        function = self._functions[assignment.function]
        invoke = self._invokers.get(assignment.function)
        if invoke is None:
            invoke = build_invoker(function, self._config.middleware, self._executors)
            self._invokers[assignment.function] = invoke
        running = RunningJob(session, assignment)
        session.counters.taken += 1
        # A job may be started by the end of another one, whose context it must not inherit.
        task = self._loop.create_task(
            self._run(running, WorkerJob(running, function.name), invoke), context=self._context.copy()
        )
        if not task.done():  # an eager task runs immediately, and may have ended
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
            running.session.counters.lost += 1
        self._tasks.clear()

    async def _run(self, running: RunningJob, job: WorkerJob, invoke: Invoker) -> None:
        session = running.session
        try:
            result = await invoke(job)
            if ProcessId.current != self._process:
                exit_forked_copy(None)
            if type(result) not in PLAIN_TYPES and needs_loop(result):
                result = await resolve(result, job)
            if session.protocol.send_complete(running.assignment, encode_result(job.function, result)):
                session.counters.completed += 1
            else:
                session.counters.lost += 1
        except BaseException as error:
            if ProcessId.current != self._process:
                exit_forked_copy(error)
            # The job must end here whatever the function raised: if sys.exit() ended the worker, the job server would
            # give the job to the next worker and end that one as well. A panic in a Rust extension is no Exception.
            if self._comes_from_outside(running, error):
                session.counters.lost += 1
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
        """End a job with what its function raised."""
        protocol, counters = running.session.protocol, running.session.counters
        if issubclass(type(error), JobFailedError):
            if protocol.send_fail(running.assignment):
                counters.failed += 1
            else:
                counters.lost += 1
            return
        try:
            log_exception(self._config.logger, error, "%r raised %s", job, type_name(error))
        finally:  # a log handler may raise
            if protocol.send_exception(running.assignment, self._describe(error)):
                counters.raised += 1
            else:
                counters.lost += 1

    def _describe(self, error: BaseException) -> bytes:
        try:
            return _encode_text(self._config.format_exception(error))
        except BaseException as failure:  # noqa: BLE001  # the job must end, whatever the user's function does
            log_exception(self._config.logger, failure, "format_exception raised")
            return _encode_text(format_exception(error))

    def _on_orphaned_thread_ended(self, _: Future[Any]) -> None:
        """Free the slot of a job whose thread has outlived it. Called in that thread."""
        try:
            self._loop.call_soon_threadsafe(self._on_job_ended)
        except RuntimeError:
            assert self._loop.is_closed()  # the thread has outlived the worker


def _encode_text(text: bytes | str) -> bytes:
    if isinstance(text, str):
        return str.encode(text, "utf-8", "backslashreplace")
    return bytes(memoryview(text))
