"""The lock of a worker's shared state, and what has to wait until it is released."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING

from geartrain.unpatched import create_native_lock

if TYPE_CHECKING:
    from threading import RLock
    from types import TracebackType

__all__ = ["Guard"]


class Guard:
    """
    Guards what the event loop and the threads of jobs share: slots, protocols, and what is queued for writing.

    While the lock is held, nothing of the user's runs, log handlers included: it might wait for a thread that wants the
    lock. What would run it is deferred until the lock is released, and then runs in the event loop.

    ``with guard:`` takes the lock, and runs what was deferred afterwards. It must not be nested. Hot paths use ``lock``
    and :meth:`run_deferred` directly, which saves two calls.

    Attributes:
        lock: The lock.
        deferred: What waits.
    """

    __slots__ = ("_loop", "_thread", "deferred", "lock")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.lock: RLock = create_native_lock()
        self.deferred: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()
        if self.deferred:
            self.run_deferred()

    def run_deferred(self) -> None:
        """Run what was deferred, in the event loop: now if this is its thread. The lock must not be held."""
        if get_ident() != self._thread:
            with suppress(RuntimeError):  # the event loop is closed, and the run has ended
                self._loop.call_soon_threadsafe(self.run_deferred, context=Context())
            return
        while self.deferred:
            call = self.deferred.popleft()
            try:
                call()
            except Exception as error:  # noqa: BLE001  # a log handler may raise; the others must run all the same
                self._loop.call_exception_handler({"message": "a worker's callback raised", "exception": error})
