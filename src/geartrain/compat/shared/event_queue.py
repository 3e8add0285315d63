"""Passes what arrives in geartrain's thread to the threads that poll."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from geartrain.blocking import Mailbox

__all__ = ["EventQueue"]


class EventQueue:
    """
    Events of one client, which change its requests when a thread polls.

    Attributes of requests, and the encoders of users, are thus used only in threads that called the client.
    """

    def __init__(self) -> None:
        self._events: deque[Callable[[], object]] = deque()
        self._waiting: set[Mailbox[None]] = set()
        self._lock = threading.RLock()
        self._process = os.getpid()

    def put(self, event: Callable[[], object]) -> None:
        """Add an event, and wake up all threads that wait."""
        self._events.append(event)
        for mailbox in list(self._waiting):
            mailbox.put(None)

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
    def listening(self) -> Iterator[Mailbox[None]]:
        """Return a mailbox that gets an item for each event."""
        mailbox: Mailbox[None] = Mailbox()
        self._waiting.add(mailbox)
        try:
            yield mailbox
        finally:
            self._waiting.discard(mailbox)
