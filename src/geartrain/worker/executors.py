"""Runs functions that may block, in threads and processes."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from geartrain.worker.forked import ending_forked_copies
from geartrain.worker.function import Function, Invoker
from geartrain.worker.job import WorkerJob
from geartrain.worker.results import needs_loop, resolve
from geartrain.worker.running_job import running_job_of

if TYPE_CHECKING:
    from geartrain.worker.processes.pool import ProcessPool
    from geartrain.worker.thread_pool import DaemonThreadPool

__all__ = ["Executors"]


class Executors:
    """
    The thread pool and the process pools of a worker, created on first use.

    Args:
        max_threads: The maximum number of threads, so of jobs that run in threads and processes.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._thread_pool: DaemonThreadPool | None = None
        self._process_pools: list[ProcessPool] = []

    def in_thread(self, call: Callable[[WorkerJob], object]) -> Invoker:
        """
        Return an invoker that runs ``call`` in a thread, in a copy of the current context.

        An awaitable or an async generator that it returns is resolved in the event loop, in the same context.
        """
        thread_pool = self._get_thread_pool()

        async def run(job: WorkerJob) -> object:
            context = contextvars.copy_context()
            future = thread_pool.submit(context.run, _get_outcome, call, job)
            try:
                result, error = await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if not future.cancel() and not future.done():
                    running_job_of(job).orphaned_thread = future
                raise
            if error is None:
                if needs_loop(result):
                    return await asyncio.create_task(resolve(result, job), context=context)
                return result
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

        return run

    def in_processes(self, function: Function, count: int) -> Invoker:
        """Return an invoker that runs a function in one of ``count`` processes, while a thread waits for the result."""
        from geartrain.worker.processes.pool import ProcessPool  # rarely needed, and slow to import

        pool = ProcessPool(function, count)
        self._process_pools.append(pool)
        wait = self.in_thread(pool.run)

        async def run(job: WorkerJob) -> object:
            pool.add(job)
            try:
                return await wait(job)
            except asyncio.CancelledError:
                pool.cancel(job)
                raise

        return run

    async def close(self) -> None:
        """End the processes, wait for them, and end the threads once their jobs have ended."""
        if self._process_pools:
            # Users may fill the loop's default executor, and the threads of this one may be busy for long.
            closing = self._create_thread_pool(len(self._process_pools))
            futures = [asyncio.wrap_future(closing.submit(pool.close)) for pool in self._process_pools]
            closing.close()
            await asyncio.gather(*futures)
        if self._thread_pool is not None:
            self._thread_pool.close()

    def _get_thread_pool(self) -> DaemonThreadPool:
        if self._thread_pool is None:
            self._thread_pool = self._create_thread_pool(self._max_threads)
        return self._thread_pool

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
