"""Runs jobs: decides where each function runs, and keeps track of all jobs."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from geartrain.worker.invocation import build_invoker
from geartrain.worker.job import WorkerJob
from geartrain.worker.outcomes import Outcomes
from geartrain.worker.running_job import RunningJob
from geartrain.worker.task_runner import TaskRunner
from geartrain.worker.thread_runner import ThreadRunner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from geartrain.protocol.worker import Assignment
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.executors import BlockingCall, Executors
    from geartrain.worker.function import Function, Invoker
    from geartrain.worker.guard import Guard
    from geartrain.worker.observer import RunObserver
    from geartrain.worker.session import WorkerSession

__all__ = ["JobRunner"]


class JobRunner:
    """
    Runs each job in a copy of the ``contextvars`` context in which this object was created.

    A plain function runs in a thread that sends its own result. Coroutine functions run in tasks; so do plain functions
    if there is middleware, because that consists of coroutines.

    Args:
        config: The worker's options.
        functions: The worker's functions, by ability.
        executors: Run what may block.
        guard: Held while an outcome is sent.
        release: Called under the lock when a job has ended and its slot is free.
        observer: Notified of the jobs in threads.
    """

    def __init__(
        self,
        config: WorkerConfig,
        functions: Mapping[bytes, Function],
        executors: Executors,
        guard: Guard,
        release: Callable[[], None],
        observer: RunObserver | None = None,
    ) -> None:
        self._config = config
        self._functions = functions
        self._executors = executors
        self._guard = guard
        self._release = release
        self._invokers: dict[bytes, Invoker] = {}
        self._calls: dict[bytes, BlockingCall] = {}
        self._context = copy_context()
        outcomes = Outcomes(config)
        self._tasks = TaskRunner(guard, outcomes, self._on_task_ended)
        self._threads = ThreadRunner(guard, outcomes, executors.get_threads, release, observer)
        self._observer = observer
        self._is_aborted = False

    @property
    def prefers_threads(self) -> bool:
        """Whether all functions run in threads, one job at a time, so that the thread should read as well."""
        return self._config.job_limit == 1 and not any(map(self._runs_in_task, self._functions.values()))

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return self._tasks.running + self._threads.running

    def start(self, session: WorkerSession, assignment: Assignment) -> None:
        """Run a job that has a slot, in a task once the lock is released or in a thread. Called under the lock."""
        if self._is_aborted or (self._observer is not None and not self._observer.accepts_jobs):
            return  # it arrived while the connections were being closed, which returns it to the job server
        function = self._functions[assignment.function]
        running = RunningJob(session, assignment)
        job = WorkerJob(running, function.name)
        session.counters.taken += 1
        if self._config.metrics is not None:
            running.on_end = self._config.metrics.start_job(function.name)
        if self._runs_in_task(function):
            self._guard.deferred.append(lambda: self._start_task(function, running, job))
        else:
            # A job may be started by the end of another one, whose context it must not inherit.
            self._threads.start(self._get_call(function), running, job, self._context.copy())

    def abort(self) -> list[asyncio.Task[Any]]:
        """Cancel all jobs and return their tasks. The connections must be closed: no outcome may be sent."""
        self._is_aborted = True
        return [*self._tasks.abort(), *self._threads.abort()]

    def close(self) -> None:
        """Count the jobs that were cancelled before their task began as lost."""
        self._tasks.close()

    def _runs_in_task(self, function: Function) -> bool:
        return function.kind.in_loop or bool(self._config.middleware)

    def _start_task(self, function: Function, running: RunningJob, job: WorkerJob) -> None:
        if self._is_aborted:
            running.count("lost")
            return
        invoke = self._invokers.get(function.ability)
        if invoke is None:
            invoke = build_invoker(function, self._config.middleware, self._executors)
            self._invokers[function.ability] = invoke
        self._tasks.start(running, job, invoke, self._context.copy())

    def _on_task_ended(self) -> None:
        with self._guard.lock:
            self._release()
        if self._guard.deferred:
            self._guard.run_deferred()

    def _get_call(self, function: Function) -> BlockingCall:
        call = self._calls.get(function.ability)
        if call is None:
            call = self._calls[function.ability] = self._executors.make_call(function)
        return call
