"""Threads that keep no process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeAlias, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
R = TypeVar("R")

_Order: TypeAlias = tuple[Future[Any], Callable[[], object]]


class Threads:
    """
    Runs calls in threads, which are started when they are needed and used again.

    They are daemons, unlike those of :class:`concurrent.futures.ThreadPoolExecutor`: nothing can stop a thread, and the
    interpreter would wait, perhaps for ever, for one whose job has been given back.

    Args:
        most: How many threads there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a call in the next thread that is free. This method is itself for one thread only."""
        future: Future[R] = Future()
        self._orders.put((future, partial(call, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._run, name=f"geartrain-worker_{self._started}", daemon=True).start()
        return future

    def close(self) -> None:
        """Let each thread end when it has ended what it runs."""
        for _ in range(self._started):
            self._orders.put(None)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            _carry_out(*order)
            del order  # an idle thread keeps no job alive
            self._idle.release()


def _carry_out(future: Future[Any], call: Callable[[], object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is for who waits
        future.set_exception(error)
    else:
        future.set_result(result)
