"""Passes calls of other threads to an event loop."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context

from geartrain.unpatched import unpatched

__all__ = ["Inbox"]


class Inbox:
    """
    Calls that the event loop makes for other threads, in order.

    ``loop.call_soon_threadsafe`` does the same with two more system calls and an exception for each wake-up. With 32
    threads that takes a third of the CPU time of a job.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[[], object], Context]] = deque()
        native_socket = unpatched("socket", "socket")  # gevent's may be used in one thread only
        self._reading, self._writing = (native_socket(fileno=end.detach()) for end in socket.socketpair())
        for end in (self._reading, self._writing):
            end.setblocking(False)
        loop.add_reader(self._reading, self._on_readable)

    def put(self, call: Callable[[], object], context: Context) -> None:
        """
        Have a call made in a context. May be called in any thread.

        Raises:
            OSError: If the inbox is closed. The call is not made then.
        """
        item = (call, context)
        self._calls.append(item)
        try:
            self._writing.send(b".")
        except BlockingIOError:
            pass  # it is full, so the event loop is about to read it
        except OSError:
            try:
                self._calls.remove(item)
            except ValueError:
                return  # make_calls() was called once more after close(), and has made it
            raise

    def _on_readable(self) -> None:
        self._reading.recv(4096)
        self.make_calls()

    def make_calls(self) -> None:
        """Make the calls that are there now; later ones must not delay other events. Called in the event loop."""
        try:
            for _ in range(len(self._calls)):
                call, context = self._calls.popleft()
                try:
                    context.run(call)
                except Exception as error:  # noqa: BLE001  # the others must be made all the same
                    self._loop.call_exception_handler({"message": f"Exception in {call!r}", "exception": error})
        finally:
            if self._calls:
                self._loop.call_soon(self.make_calls)

    def close(self) -> None:
        """Accept no more calls. Called in the event loop."""
        self._loop.remove_reader(self._reading)
        self.detach()

    def detach(self) -> None:
        """Do the same in a forked process, where the event loop does not run."""
        self._reading.close()
        self._writing.close()
