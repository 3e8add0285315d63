"""A thread of the caller's that runs the plain functions of a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from geartrain.worker.thread_pool import DaemonThreadPool

__all__ = ["FunctionThread", "pool_of"]


class FunctionThread:
    """
    Has a worker run its plain functions, one at a time, in the thread that calls :meth:`serve`.

    The event loop of the worker runs in another thread: there, ``await worker.run(thread=thread)``.
    ``KeyboardInterrupt`` and ``SystemExit`` end no job: :meth:`serve` raises them, and once the run is cancelled its
    job server gives the job to another worker. It can be used for one run.
    """

    def __init__(self) -> None:
        self._pool = DaemonThreadPool(1, provided=1, interrupts=(KeyboardInterrupt, SystemExit))
        self._error: BaseException | None = None

    def serve(self) -> None:
        """
        Run functions until the run of the worker ends.

        After an exception cancel the run, and call this again: it returns when the run has ended.

        Raises:
            KeyboardInterrupt: From a function or a signal handler, like SystemExit.
            BaseException: What a call of :meth:`execute` has raised.
        """
        try:
            self._pool.serve()
        except SystemExit:
            error, self._error = self._error, None
            if error is not None:
                raise error from None
            raise

    def execute(self, call: Callable[[], object]) -> None:
        """Run a call in the thread, between jobs. May be called from any thread."""
        self._pool.execute(partial(self._run, call))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            self._error = error
            raise SystemExit from error

    def close(self) -> None:
        """Have :meth:`serve` return, also if the worker has never begun to run."""
        self._pool.close()


def pool_of(thread: FunctionThread | None) -> DaemonThreadPool | None:
    """Return the thread as the worker uses it."""
    return thread._pool if thread is not None else None
