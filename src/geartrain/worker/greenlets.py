"""Greenlets that run calls, where gevent has replaced threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from geartrain.mailbox import Mailbox
from geartrain.worker.thread_pool import DaemonThreadPool, Threads, run_reporting

__all__ = ["Greenlets"]


class Greenlets(Threads):
    """
    Runs calls in the greenlet that calls :meth:`serve`, or in greenlets that it starts.

    The event loop has a thread of its own. A greenlet that is started there belongs to that thread, and never runs,
    because the event loop does not wait in gevent's way.

    Args:
        started: The maximum number of greenlets that are started. With 0 the calling one runs the calls, one at a time.
    """

    def __init__(self, started: int = 0) -> None:
        from gevent import GreenletExit

        # Ctrl-C is raised in whatever greenlet is running.
        self.interrupts: tuple[type[BaseException], ...] = (
            (KeyboardInterrupt,) if started else (KeyboardInterrupt, SystemExit, GreenletExit)
        )
        self._calls: Mailbox[Callable[[], object] | None] = Mailbox()
        self._pool = DaemonThreadPool(started) if started else None

    def execute(self, call: Callable[[], object]) -> None:
        """Run a call in a greenlet. May be called from any thread."""
        self._calls.put(call if self._pool is None else partial(self._pool.execute, partial(self._run, call)))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except self.interrupts as error:
            self._calls.put(partial(_raise, error))

    def close(self) -> None:
        """Have :meth:`serve` return once the queued calls have begun."""
        self._calls.put(None)

    def serve(self) -> None:
        """
        Run calls until :meth:`close`.

        Raises:
            BaseException: One of ``interrupts``. Call it again for what is left.
        """
        while (call := self._calls.get()) is not None:
            run_reporting(call, self.interrupts)
            del call  # an idle greenlet keeps no job alive
        if self._pool is not None:
            self._pool.close()


def _raise(error: BaseException) -> None:
    raise error
