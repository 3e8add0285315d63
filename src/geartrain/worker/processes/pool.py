"""The processes of one function."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable

from geartrain.worker.function import Function
from geartrain.worker.job import WorkerJob, reporter_of
from geartrain.worker.process_hooks import NO_HOOKS, STOP_WITHIN, ProcessHooks
from geartrain.worker.processes.interpreter import END_WITHIN
from geartrain.worker.processes.process import WorkerProcess

__all__ = ["ProcessPool"]


class ProcessPool:
    """
    The processes of one function, started when they are needed; one that dies is replaced when the next is needed.

    The lock is only held for bookkeeping: neither starting, running nor ending a process holds it.

    Args:
        function: What they run.
        count: How many there may be.
        hooks: Called in each process.
        on_restart: Called when a process has been started in place of one that has ended.
    """

    def __init__(
        self,
        function: Function,
        count: int,
        hooks: ProcessHooks = NO_HOOKS,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = function.name
        self._program = pickle.dumps((function, hooks))
        self._stop_within = STOP_WITHIN if hooks.stop is not None else END_WITHIN
        self._count = count
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._busy = 0
        self._on_restart = on_restart
        self._ended = 0  # processes that have ended and were not replaced yet
        self._jobs: dict[WorkerJob, WorkerProcess | None] = {}  # None: waiting for a process
        self._closed = False

    def add(self, job: WorkerJob) -> None:
        """Take a job that a thread is going to :meth:`run`. From now on :meth:`cancel` has an effect."""
        with self._changed:
            self._jobs[job] = None

    def run(self, job: WorkerJob) -> object:
        """Wait for a process, run a job in it, and return its result. Raises what :meth:`WorkerProcess.run` raises."""
        try:
            process = self._acquire(job)
            try:
                return process.run(reporter_of(job))
            finally:
                self._release(job, process)
        finally:
            self._jobs.pop(job, None)

    def cancel(self, job: WorkerJob) -> None:
        """End a job immediately, and the process that runs it. Never blocks."""
        with self._changed:
            process = self._jobs.pop(job, None)
            if process is not None:
                process.kill()
            self._changed.notify_all()

    def close(self) -> None:
        """End all processes, and wait until they have ended."""
        with self._changed:
            self._closed = True
            for process in filter(None, self._jobs.values()):
                process.kill()
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for process in idle:
            process.close_pipe()
        for process in idle:
            process.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)

    def _acquire(self, job: WorkerJob) -> WorkerProcess:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or job not in self._jobs or self._idle or self._busy < self._count
            )
            if self._closed or job not in self._jobs:
                raise ChildProcessError("the job was cancelled before a process was free")
            process = self._take_idle()
            is_restart = process is None and self._ended > 0
            if process is None:
                process = WorkerProcess(self._name, self._program, self._stop_within)
                self._ended -= is_restart
            self._jobs[job] = process
            self._busy += 1
        if is_restart:
            self._on_restart()
        return process

    def _take_idle(self) -> WorkerProcess | None:
        while self._idle:
            process = self._idle.pop()
            if not process.ended:
                return process
            self._ended += 1
            process.end()  # it has died while it had no job; this only reaps it
        return None

    def _release(self, job: WorkerJob, process: WorkerProcess) -> None:
        with self._changed:
            # From here on the process may run another job, and is not to be killed for this one.
            self._jobs.pop(job, None)
            keep = process.reusable and not process.is_killed and not self._closed
            if keep:
                self._idle.append(process)
            else:
                self._ended += 1
        if not keep:
            process.end()
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()
