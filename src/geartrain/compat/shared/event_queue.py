"""Passes what arrives in geartrain's thread to the threads that poll."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from geartrain import Mailbox

__all__ = ["EventQueue", "Listener"]


class Listener:
    """
    Wakes up one thread when there are events.

    Args:
        acceptances: Whether the acceptance of a job is one. Most are followed by the result within a millisecond, so
            a thread that waits for that is not woken up twice.

    Attributes:
        acceptances: As given.
    """

    def __init__(self, *, acceptances: bool) -> None:
        self.acceptances: bool = acceptances
        self._mailbox: Mailbox[None] = Mailbox()

    def wake(self) -> None:
        """End the wait, or the next one. Called in any thread."""
        if self._mailbox.is_empty:  # one item is enough for any number of events
            self._mailbox.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Wait for an event, at most ``timeout`` seconds, and return whether there is one."""
        try:
            self._mailbox.get(timeout)
        except TimeoutError:
            return False
        return True


class EventQueue:
    """
    Events of one client, which change its requests when a thread polls.

    Attributes of requests, and the encoders of users, are thus used only in threads that called the client.
    """

    def __init__(self) -> None:
        self._events: deque[Callable[[], object]] = deque()
        self._listeners: set[Listener] = set()
        self._lock = threading.RLock()
        self._process = os.getpid()

    def put(self, event: Callable[[], object], *, is_acceptance: bool = False) -> None:
        """
        Add an event, and wake up the threads that wait for it.

        Args:
            event: Called when a thread polls.
            is_acceptance: Whether a job server has accepted a job.
        """
        self._events.append(event)
        for listener in list(self._listeners):
            if listener.acceptances or not is_acceptance:
                listener.wake()

    def handle(self) -> bool:
        """
        Handle all events; return whether there were any.

        Raises:
            Exception: What handling one has raised. The others remain.
        """
        if not self._events:
            return False
        with self._get_lock():  # in order, although several threads poll
            while self._events:
                self._events.popleft()()
        return True

    def _get_lock(self) -> threading.RLock:
        if self._process != os.getpid():  # a thread that does not exist here may hold it
            self._process = os.getpid()
            self._lock = threading.RLock()
        return self._lock

    @contextmanager
    def listening(self, *, acceptances: bool) -> Iterator[Listener]:
        """Return what waits for the next event; see :class:`Listener`."""
        listener = Listener(acceptances=acceptances)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
