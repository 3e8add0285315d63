"""A pool of daemon threads; a running job never blocks interpreter exit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeAlias, TypeVar

__all__ = ["DaemonThreadPool"]

P = ParamSpec("P")
R = TypeVar("R")

_QueuedCall: TypeAlias = tuple[Future[Any], Callable[[], object]]


class DaemonThreadPool:
    """
    Runs calls in threads, which are started on demand and reused.

    The threads are daemons, unlike those of :class:`concurrent.futures.ThreadPoolExecutor`: a thread cannot be
    stopped, and the interpreter would wait, possibly forever, for one whose job has been given back.

    Args:
        max_threads: The maximum number of threads.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[_QueuedCall | None] = SimpleQueue()

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a call in the next free thread. This method must always be called from the same thread."""
        future: Future[R] = Future()
        self._queue.put((future, partial(call, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < self._max_threads:
            self._started += 1
            threading.Thread(target=self._run, name=f"geartrain-worker_{self._started}", daemon=True).start()
        return future

    def close(self) -> None:
        """End each thread once the queued calls have run."""
        for _ in range(self._started):
            self._queue.put(None)

    def _run(self) -> None:
        while (queued := self._queue.get()) is not None:
            _run_call(*queued)
            del queued  # an idle thread keeps no job alive
            self._idle.release()


def _run_call(future: Future[Any], call: Callable[[], object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the caller
        future.set_exception(error)
    else:
        future.set_result(result)
