"""Pipes to and from child processes that do not rely on every process closing its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self

__all__ = ["InputPipe", "OutputPipe"]

_CHUNK: Final = 256 * 1024


class _Pipe:
    """
    A pipe between this process and a child. This process's end is non-blocking.

    Attributes:
        child_end: The descriptor for the child. Call :meth:`close_child_end` once the child has been started.
    """

    def __init__(self, parent_end: int, child_end: int) -> None:
        os.set_blocking(parent_end, False)
        self._parent_end = parent_end
        self.child_end: int = child_end

    def close_child_end(self) -> None:
        """Close this process's copy of the child's end, so that it can detect when the child closes its own."""
        if self.child_end >= 0:
            os.close(self.child_end)
            self.child_end = -1

    def close(self) -> None:
        """Close both ends, unless they are closed already."""
        self.close_child_end()
        if self._parent_end >= 0:
            os.close(self._parent_end)
            self._parent_end = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class InputPipe(_Pipe):
    """The standard input of a child."""

    def __init__(self) -> None:
        child_end, parent_end = os.pipe()
        super().__init__(parent_end, child_end)

    async def write(self, data: bytes) -> None:
        """Write all data, then close the pipe. The child need not read all of it."""
        loop = asyncio.get_running_loop()
        remaining = memoryview(data)
        try:
            while remaining:
                try:
                    remaining = remaining[os.write(self._parent_end, remaining) :]
                except BlockingIOError:
                    await _wait_for(asyncio.Event(), self._parent_end, loop.add_writer, loop.remove_writer)
        except BrokenPipeError:
            pass
        finally:
            self.close()


class OutputPipe(_Pipe):
    """The standard output or standard error of a child."""

    def __init__(self) -> None:
        parent_end, child_end = os.pipe()
        super().__init__(parent_end, child_end)
        self._finished = False
        self._changed = asyncio.Event()  # readable, or finish() was called

    def finish(self) -> None:
        """Make :meth:`read` end once the pipe is empty, even if a process still has it open for writing."""
        self._finished = True
        self._changed.set()

    async def read(self) -> AsyncIterator[bytes]:
        """Read until the other end is closed in every process, or until the pipe is empty after :meth:`finish`."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                chunk = os.read(self._parent_end, _CHUNK)
            except BlockingIOError:
                if self._finished:
                    return
                self._changed.clear()
                await _wait_for(self._changed, self._parent_end, loop.add_reader, loop.remove_reader)
            else:
                if not chunk:
                    return
                yield chunk
                await asyncio.sleep(0)  # a process may write faster than its output is handled


async def _wait_for(
    event: asyncio.Event,
    descriptor: int,
    add: Callable[[int, Callable[[], None]], None],
    remove: Callable[[int], object],
) -> None:
    """Wait until the event is set, by the event loop when the descriptor is ready or by any other code."""
    add(descriptor, event.set)
    try:
        await event.wait()
    finally:
        remove(descriptor)
