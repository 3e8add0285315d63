"""Pipes to and from child processes, which do not depend on all ends being closed."""

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
    A pipe between this process, whose end does not block, and a child.

    Attributes:
        child_end: The descriptor for the child; closed by :meth:`close_child_end` once it has been started.
    """

    def __init__(self, own_end: int, child_end: int) -> None:
        os.set_blocking(own_end, False)
        self._own_end = own_end
        self.child_end: int = child_end

    def close_child_end(self) -> None:
        """Close the child's end in this process, so that its being closed there shows here."""
        if self.child_end >= 0:
            os.close(self.child_end)
            self.child_end = -1

    def close(self) -> None:
        """Close what is open."""
        self.close_child_end()
        if self._own_end >= 0:
            os.close(self._own_end)
            self._own_end = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class InputPipe(_Pipe):
    """The standard input of a child."""

    def __init__(self) -> None:
        child_end, own_end = os.pipe()
        super().__init__(own_end, child_end)

    async def write(self, data: bytes) -> None:
        """Write all data, and close the pipe; it is no error if the child does not read all of it."""
        loop = asyncio.get_running_loop()
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._own_end, rest) :]
                except BlockingIOError:
                    await _wait_for(asyncio.Event(), self._own_end, loop.add_writer, loop.remove_writer)
        except BrokenPipeError:
            pass
        finally:
            self.close()


class OutputPipe(_Pipe):
    """The standard output, or error, of a child."""

    def __init__(self) -> None:
        own_end, child_end = os.pipe()
        super().__init__(own_end, child_end)
        self._finished = False
        self._changed = asyncio.Event()  # there is more to read, or finish() was called

    def finish(self) -> None:
        """End :meth:`read` when the pipe is empty, although somebody may still have it open for writing."""
        self._finished = True
        self._changed.set()

    async def read(self) -> AsyncIterator[bytes]:
        """Read until everybody has closed the other end, or until the pipe is empty after :meth:`finish`."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                chunk = os.read(self._own_end, _CHUNK)
            except BlockingIOError:
                if self._finished:
                    return
                self._changed.clear()
                await _wait_for(self._changed, self._own_end, loop.add_reader, loop.remove_reader)
            else:
                if not chunk:
                    return
                yield chunk


async def _wait_for(
    event: asyncio.Event,
    descriptor: int,
    add: Callable[[int, Callable[[], None]], None],
    remove: Callable[[int], object],
) -> None:
    """Wait until somebody sets the event, as the event loop does when the descriptor is ready."""
    add(descriptor, event.set)
    try:
        await event.wait()
    finally:
        remove(descriptor)
