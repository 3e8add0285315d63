"""Reads connections in the threads that run the jobs."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from geartrain.fork_safety import protect_on_fork

__all__ = ["Readable", "ThreadReader"]


class Readable(Protocol):
    """A connection that threads read."""

    def read(self) -> None:
        """Handle what has arrived, if anything."""


class ThreadReader:
    """
    Waits in a thread until connections have something to read, and has them read.

    A thread that has sent a result and then waits for the next job itself needs neither the event loop nor another
    thread to wake it. One thread reads at a time. While all of them run jobs nothing is read, except at the ticks of
    the worker and when a function asks whether its job is lost.

    Args:
        on_error: Called in a thread with what reading raises: a bug.
        interrupts: What signal handlers of the reading thread raise, which is no bug.
    """

    def __init__(
        self, on_error: Callable[[BaseException], None], interrupts: tuple[type[BaseException], ...] = ()
    ) -> None:
        self._interrupts = interrupts
        self._on_error = on_error
        self._lock = threading.Lock()
        self._is_closed = False
        self._poll = select.poll()
        self._connections: dict[int, Readable] = {}
        self._wake_reader, self._wake_writer = os.pipe()
        for descriptor in self._descriptors():
            os.set_blocking(descriptor, False)
        self._poll.register(self._wake_reader, select.POLLIN)
        protect_on_fork(self, ThreadReader._descriptors)

    # In the event loop.

    def add(self, connection: Readable, descriptor: int) -> None:
        """Read a connection from now on."""
        self._connections[descriptor] = connection
        self._poll.register(descriptor, select.POLLIN)
        self.wake()

    def remove(self, connection: Readable) -> None:
        """Do not read a connection any more. Its descriptor must still be open."""
        for descriptor, other in list(self._connections.items()):
            if other is connection:
                del self._connections[descriptor]
                self._poll.unregister(descriptor)
        self.wake()

    def wake(self) -> None:
        """Have :meth:`read` return soon."""
        with self._lock, suppress(BlockingIOError):  # it is full, so the thread wakes anyway
            if not self._is_closed:
                os.write(self._wake_writer, b".")

    # In a thread.

    def read(self) -> None:
        """Wait until something arrives, or :meth:`wake` is called, and handle it."""
        try:
            for descriptor, _ in self._poll.poll():
                connection = self._connections.get(descriptor)
                if connection is not None:
                    connection.read()
                elif descriptor == self._wake_reader:
                    with suppress(BlockingIOError):
                        os.read(self._wake_reader, 4096)
        except BaseException as error:
            if not isinstance(error, self._interrupts):
                self._on_error(error)
            raise

    def close(self) -> None:
        """Close the pipe."""
        with self._lock:
            descriptors = self._descriptors()
            self._is_closed = True
            for descriptor in descriptors:
                os.close(descriptor)

    def _descriptors(self) -> tuple[int, ...]:
        return () if self._is_closed else (self._wake_reader, self._wake_writer)
