"""One run of a worker for programs without asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from geartrain import FunctionThread, Mailbox
from geartrain import Worker as AsyncWorker
from geartrain.blocking.resident import Resident
from geartrain.unpatched import is_patched

__all__ = ["WorkerRun", "create_function_thread"]


def create_function_thread(concurrency: int, *, in_background: bool = False) -> FunctionThread | None:
    """Return what runs the functions in or for the calling thread, or ``None`` if the worker starts its own threads."""
    if is_patched():
        return FunctionThread(greenlets=concurrency if concurrency > 1 or in_background else 0)
    return FunctionThread() if concurrency == 1 and not in_background else None


class WorkerRun:
    """
    One run of the worker in geartrain's thread, which begins immediately.

    Args:
        resident: The worker.
        thread: Runs its plain functions, or ``None``.
        on_idle: Called in this thread every ``interval`` seconds.
        interval: Seconds.
        wait_for_servers: As for :meth:`Worker.run`.
    """

    def __init__(
        self,
        resident: Resident[AsyncWorker],
        thread: FunctionThread | None,
        on_idle: Callable[[], object] | None = None,
        interval: float = 0.0,
        *,
        wait_for_servers: bool = True,
    ) -> None:
        self._failures: Mailbox[BaseException | None] = Mailbox()
        self._thread = thread
        self._on_idle = on_idle
        self._interval = interval
        self._wait_for_servers = wait_for_servers
        self._is_idle_call_due = False
        self._worker = resident.instance
        self._started = resident.get_thread().spawn(self._run, self._on_end)

    async def _run(self) -> None:
        if self._thread is None or self._on_idle is None:
            await self._serve()
            return
        calling = asyncio.create_task(self._call_regularly(self._thread, self._on_idle))
        try:
            await self._serve()
        finally:
            calling.cancel()

    async def _serve(self) -> None:
        await self._worker.run(thread=self._thread, wait_for_servers=self._wait_for_servers)

    async def _call_regularly(self, thread: FunctionThread, on_idle: Callable[[], object]) -> None:
        def call() -> None:
            self._is_idle_call_due = False
            on_idle()

        while True:
            await asyncio.sleep(self._interval)
            if not self._is_idle_call_due:  # a job that takes longer than the interval delays one call, not many
                self._is_idle_call_due = True
                thread.execute(call)

    def _on_end(self, _: None, failure: BaseException | None) -> None:
        self._failures.put(failure)
        if self._thread is not None:
            self._thread.close()

    @property
    def has_ended(self) -> bool:
        """Whether :meth:`result` does not wait."""
        return not self._failures.is_empty

    def serve(self) -> None:
        """Have ``thread`` run functions here until the end. If that is interrupted, give the jobs back."""
        if self._thread is None:
            return
        try:
            self._thread.serve()
        except BaseException:
            self._started.cancel()
            self._thread.serve()
            raise

    def serve_in_background(self) -> None:
        """Do the same in a greenlet."""
        if self._thread is not None:
            import gevent  # there is a thread in the background only where gevent has replaced threads

            gevent.spawn(self.serve)

    def result(self) -> None:
        """Wait for the end, and raise what ended it. If the wait is interrupted, give the jobs back."""
        try:
            failure = self._failures.get()
        except BaseException:
            self._started.cancel()
            raise
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame
