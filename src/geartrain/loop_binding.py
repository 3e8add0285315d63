"""Ties an object to the event loop, thread and process in which it is used."""

from __future__ import annotations

import asyncio
import os
from threading import get_ident
from typing import Final

from geartrain.errors import LocalProtocolError
from geartrain.fork_safety import check_process

__all__ = ["LoopBinding"]

_FROM_ELSEWHERE: Final = "asyncio.run_coroutine_threadsafe"


class LoopBinding:
    """
    The running event loop, its thread and its process.

    Attributes:
        loop: The event loop.
        thread: The identifier of its thread.
        process: The process ID.
    """

    __slots__ = ("loop", "process", "thread")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.thread: int = get_ident()
        self.process: int = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one of the event loop."""
        return self.process != os.getpid()

    def check(self, what: str, from_elsewhere: str = _FROM_ELSEWHERE) -> None:
        """
        Check that the caller runs in the event loop.

        Args:
            what: The object in use, for the message.
            from_elsewhere: How to use it from outside the event loop, for the message.

        Raises:
            LocalProtocolError: If it does not.
        """
        check_process(self.process, what)
        if asyncio._get_running_loop() is not self.loop:
            raise _in_use_elsewhere(what, from_elsewhere)

    def check_thread(self, what: str, from_elsewhere: str = _FROM_ELSEWHERE) -> None:
        """
        Check the same, but accept a caller in the thread of the event loop while no event loop is running.

        asyncio cancels the tasks that are left after it has stopped their event loop.

        Raises:
            LocalProtocolError: If the caller runs in another event loop, thread or process.
        """
        check_process(self.process, what)
        if asyncio._get_running_loop() not in (None, self.loop) or get_ident() != self.thread:
            raise _in_use_elsewhere(what, from_elsewhere)


def _in_use_elsewhere(what: str, from_elsewhere: str) -> LocalProtocolError:
    return LocalProtocolError(f"{what} is in use in another event loop; from here use {from_elsewhere}")
