"""A thread of the caller's that runs the plain functions of a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from geartrain.unpatched import is_patched
from geartrain.worker.thread_pool import DaemonThreadPool

if TYPE_CHECKING:
    from geartrain.worker.greenlets import Greenlets
    from geartrain.worker.thread_pool import Threads

__all__ = ["FunctionThread", "threads_of"]


class FunctionThread:
    """
    Has a worker run its plain functions, one at a time, in the thread that calls :meth:`serve`.

    The event loop of the worker runs in another thread: there, ``await worker.run(thread=thread)``.
    ``KeyboardInterrupt`` and ``SystemExit`` end no job: :meth:`serve` raises them, and once the run is cancelled its
    job server gives the job to another worker. It can be used for one run.

    Under gevent's monkey patching other greenlets run while :meth:`serve` waits for a job or a function waits for
    something.

    Args:
        greenlets: Have :meth:`serve` start up to this many greenlets, which run the functions, so that as many can run
            at a time. Only under gevent's monkey patching. Then ``SystemExit`` ends only its job.

    Attributes:
        concurrency: How many functions can run at a time.

    Raises:
        ValueError: If there are to be ``greenlets`` without the monkey patching.
    """

    def __init__(self, *, greenlets: int = 0) -> None:
        self.concurrency: int = greenlets or 1
        self._error: BaseException | None = None
        self._threads: DaemonThreadPool | Greenlets
        if is_patched():
            from geartrain.worker.greenlets import Greenlets  # gevent is an optional dependency

            self._threads = Greenlets(greenlets)
        elif greenlets:
            raise ValueError(f"greenlets need gevent's monkey patching, got greenlets={greenlets}")
        else:
            self._threads = DaemonThreadPool(1, provided=1, interrupts=(KeyboardInterrupt, SystemExit))

    def serve(self) -> None:
        """
        Run functions until the run of the worker ends.

        After an exception cancel the run, and call this again: it returns when the run has ended.

        Raises:
            KeyboardInterrupt: From a function or a signal handler, like SystemExit, and gevent's GreenletExit.
            BaseException: What a call of :meth:`execute` has raised.
        """
        try:
            self._threads.serve()
        except SystemExit:
            error, self._error = self._error, None
            if error is not None:
                raise error from None
            raise

    def execute(self, call: Callable[[], object]) -> None:
        """Run a call in the thread, between jobs. May be called from any thread."""
        self._threads.execute(partial(self._run, call))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            self._error = error
            raise SystemExit from error

    def close(self) -> None:
        """Have :meth:`serve` return, also if the worker has never begun to run."""
        self._threads.close()


def threads_of(thread: FunctionThread | None) -> Threads | None:
    """Return the thread as the worker uses it."""
    return thread._threads if thread is not None else None
