"""What a thread waits on for the event loop's thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """
    Passes items from the event loop's thread to one thread at a time.

    It is made of one lock for each wait, because waiting for a lock can be interrupted by a signal handler, and because
    under gevent's monkey patching a new lock suspends a greenlet instead of its thread.
    """

    __slots__ = ("_items", "_waiting")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: threading.Lock | None = None

    @property
    def is_empty(self) -> bool:
        """Whether :meth:`get` would wait."""
        return not self._items

    def put(self, item: T) -> None:
        """Add an item and wake up the thread that waits."""
        self._items.append(item)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.release()

    def get(self) -> T:
        """Wait for an item, and remove it. Whatever a signal handler raises ends the wait, and nothing is lost."""
        while not self._items:
            lock = threading.Lock()
            lock.acquire()
            self._waiting = lock
            if not self._items:  # else it arrived before the lock was in place
                lock.acquire()
        return self._items.popleft()
