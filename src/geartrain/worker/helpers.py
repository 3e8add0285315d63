"""The threads and processes of a worker."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from geartrain.worker.forked import ending_forked_copies
from geartrain.worker.function import Call, Function
from geartrain.worker.job import WorkerJob
from geartrain.worker.results import needs_loop, resolve

if TYPE_CHECKING:
    from geartrain.worker.processes.pool import ProcessPool
    from geartrain.worker.threads import Threads

__all__ = ["Helpers"]


class Helpers:
    """
    Threads and processes, started when they are needed.

    Args:
        threads: How many jobs may run in them at a time.
    """

    def __init__(self, threads: int) -> None:
        self._most_threads = threads
        self._threads: Threads | None = None
        self._pools: list[ProcessPool] = []

    def in_thread(self, call: Callable[[WorkerJob], object]) -> Call:
        """
        Return what runs ``call`` in a thread, in a copy of the present context.

        An awaitable or an async generator that it returns is resolved in the loop, in the same context.
        """
        threads = self._get_threads()

        async def run(job: WorkerJob) -> object:
            context = contextvars.copy_context()
            future = threads.submit(context.run, _get_outcome, call, job)
            try:
                result, error = await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                # Nothing stops a thread. The slot stays in use as long as it runs.
                if not future.cancel() and not future.done():
                    job._straggler = future
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

    def in_processes(self, function: Function, count: int) -> Call:
        """Return what runs a function in one of ``count`` processes, while a thread waits for its end."""
        from geartrain.worker.processes.pool import ProcessPool  # what few need, and takes a while to import

        pool = ProcessPool(function, count)
        self._pools.append(pool)
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
        """End the processes, and the threads when they have ended their jobs."""
        if self._pools:
            # Users may fill the loop's default executor, and the threads here may be busy for long.
            closing = self._make_threads(len(self._pools))
            futures = [asyncio.wrap_future(closing.submit(pool.close)) for pool in self._pools]
            closing.close()
            await asyncio.gather(*futures)
        if self._threads is not None:
            self._threads.close()

    def _get_threads(self) -> Threads:
        if self._threads is None:
            self._threads = self._make_threads(self._most_threads)
        return self._threads

    @staticmethod
    def _make_threads(most: int) -> Threads:
        from geartrain.worker.threads import Threads  # a worker of coroutines needs none

        return Threads(most)


def _get_outcome(call: Callable[[WorkerJob], object], job: WorkerJob) -> tuple[object, BaseException | None]:
    """Return the result or the exception of a call: asyncio replaces some exceptions of a thread's future by others."""
    try:
        with ending_forked_copies():
            return call(job), None
    except BaseException as error:  # noqa: BLE001  # it is raised in the loop
        return None, error
