"""What a thread, or a greenlet, waits on for another thread."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from geartrain.unpatched import is_patched

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """
    A queue by which callbacks, or other threads, pass items to one thread, or one greenlet, at a time.

    Under gevent's monkey patching, other greenlets run while one waits, unlike with the queues of the standard library.
    """

    __slots__ = ("_items", "_waiting")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: _Waiter | None = None

    @property
    def is_empty(self) -> bool:
        """Whether :meth:`get` would wait."""
        return not self._items

    def put(self, item: T) -> None:
        """Add an item and wake up the thread that waits."""
        self._items.append(item)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.wake()

    def get(self, timeout: float | None = None) -> T:
        """
        Wait for an item, and remove it. Whatever a signal handler raises ends the wait, and nothing is lost.

        Raises:
            TimeoutError: If there is none within ``timeout`` seconds.
        """
        while not self._items:
            waiter: _Waiter = _GreenletWaiter() if is_patched() else _LockWaiter()
            self._waiting = waiter
            # An item may have arrived before the waiter was in place.
            if not self._items and not waiter.wait(timeout) and not self._items:
                raise TimeoutError(f"nothing within {timeout} s")
        return self._items.popleft()


class _Waiter(Protocol):
    """One wait for one event."""

    def wait(self, timeout: float | None) -> bool:
        """Return whether it was woken up in time."""

    def wake(self) -> None:
        """End the wait. Called in the thread that puts an item."""


class _LockWaiter:
    """Waits for a lock, which a signal handler can interrupt."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def wake(self) -> None:
        self._lock.release()


class _GreenletWaiter:
    """
    Lets other greenlets run meanwhile.

    gevent's own locks would do, but if no other greenlet waits for anything, gevent concludes that this wait never
    ends: it does not know the other thread. The watcher prevents that, and may be used from another thread.
    """

    __slots__ = ("_event", "_watcher")

    def __init__(self) -> None:
        import gevent.event

        self._event = gevent.event.Event()
        self._watcher: Any = gevent.get_hub().loop.async_()
        self._watcher.start(self._event.set)

    def wait(self, timeout: float | None) -> bool:
        try:
            return bool(self._event.wait(timeout))
        finally:
            self._watcher.stop()
            self._watcher.close()

    def wake(self) -> None:
        with contextlib.suppress(Exception):  # it was closed in this moment, because of a timeout
            self._watcher.send()
