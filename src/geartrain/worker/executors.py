"""Runs functions that may block, in threads and processes."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from geartrain.worker.forked import ending_forked_copies
from geartrain.worker.function import Function, Invoker, run_blocking
from geartrain.worker.job import WorkerJob
from geartrain.worker.process_hooks import NO_HOOKS, ProcessHooks
from geartrain.worker.results import needs_loop, resolve_outcome
from geartrain.worker.running_job import running_job_of

if TYPE_CHECKING:
    from geartrain.worker.processes.pool import ProcessPool
    from geartrain.worker.thread_pool import DaemonThreadPool, Threads
    from geartrain.worker.thread_reader import ThreadReader

__all__ = ["BlockingCall", "Executors"]


class BlockingCall:
    """
    How a function that may block is run.

    Attributes:
        function: The function.
        run: Runs a job of it, in a thread.
        prepare: Called before a job is passed to a thread.
        cancel: Called when a job has ended before its thread has. Never blocks.
    """

    __slots__ = ("cancel", "function", "prepare", "run")

    def __init__(self, function: Function, pool: ProcessPool | None = None) -> None:
        self.function: Function = function
        self.run: Callable[[WorkerJob], object] = partial(run_blocking, function) if pool is None else pool.run
        self.prepare: Callable[[WorkerJob], object] = _do_nothing if pool is None else pool.add
        self.cancel: Callable[[WorkerJob], object] = _do_nothing if pool is None else pool.cancel


class Executors:
    """
    The thread pool and the process pools of a worker, created on first use.

    Args:
        max_threads: The maximum number of threads, so of jobs that run in threads and processes.
        threads: The threads; created on first use if it is ``None``. Closed by :meth:`close`.
        process_hooks: Called in each process.
        on_restart: Called when a process has been started in place of one that has ended.
    """

    def __init__(
        self,
        max_threads: int,
        threads: Threads | None = None,
        process_hooks: ProcessHooks = NO_HOOKS,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._max_threads = max_threads
        self._threads = threads
        self._process_hooks = process_hooks
        self._on_restart = on_restart
        self._process_pools: list[ProcessPool] = []

    def make_call(self, function: Function) -> BlockingCall:
        """Return how a function that may block is run: in this process or in others."""
        if function.processes is None:
            return BlockingCall(function)
        from geartrain.worker.processes.pool import ProcessPool  # rarely needed, and slow to import

        pool = ProcessPool(function, function.processes, self._process_hooks, self._on_restart)
        self._process_pools.append(pool)
        return BlockingCall(function, pool)

    def make_invoker(self, function: Function) -> Invoker:
        """
        Return an invoker that runs a function in a thread, in a copy of the current context.

        An awaitable or an async generator that it returns is resolved in the event loop, in the same context.
        """
        call = self.make_call(function)
        threads = self.get_threads()

        async def run(job: WorkerJob) -> object:
            context = contextvars.copy_context()
            call.prepare(job)
            future = threads.submit(context.run, _get_outcome, call.run, job)
            try:
                result, error = await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if not future.cancel() and not future.done():
                    running_job_of(job).orphaned_thread = future
                call.cancel(job)
                raise
            if error is None and needs_loop(result):
                result, error = await asyncio.create_task(resolve_outcome(result, job), context=context)
            if error is None:
                return result
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

        return run

    def read_in_threads(self, on_error: Callable[[BaseException], None]) -> ThreadReader | None:
        """
        Have the threads read connections; ``on_error`` is called in a thread with what that raises.

        Returns:
            What reads them, or ``None`` if the threads are greenlets: those must not block.
        """
        from geartrain.worker.thread_pool import DaemonThreadPool
        from geartrain.worker.thread_reader import ThreadReader

        threads = self.get_threads()
        if not isinstance(threads, DaemonThreadPool):
            return None
        reader = ThreadReader(on_error, threads.interrupts)
        threads.start_reading(reader)
        return reader

    async def close(self) -> None:
        """End the processes, wait for them, and end the threads once their jobs have ended."""
        if self._process_pools:
            # Users may fill the loop's default executor, and the threads of this one may be busy for long.
            closing = self._create_thread_pool(len(self._process_pools))
            futures = [asyncio.wrap_future(closing.submit(pool.close)) for pool in self._process_pools]
            closing.close()
            await asyncio.gather(*futures)
        if self._threads is not None:
            self._threads.close()

    def get_threads(self) -> Threads:
        """Return the threads."""
        if self._threads is None:
            self._threads = self._create_thread_pool(self._max_threads)
        return self._threads

    @staticmethod
    def _create_thread_pool(max_threads: int) -> DaemonThreadPool:
        from geartrain.worker.thread_pool import DaemonThreadPool  # a worker of coroutines needs none

        return DaemonThreadPool(max_threads)


def _get_outcome(call: Callable[[WorkerJob], object], job: WorkerJob) -> tuple[object, BaseException | None]:
    """Return the result or the exception of a call. A future would replace some exceptions by others."""
    try:
        with ending_forked_copies():
            return call(job), None
    except BaseException as error:  # noqa: BLE001  # it is raised again in the event loop
        return None, error


def _do_nothing(job: WorkerJob) -> None:
    pass
