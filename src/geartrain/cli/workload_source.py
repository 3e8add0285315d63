"""Where workloads come from: standard input or a file, whole or in parts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

__all__ = ["WorkloadError", "read_workload", "read_workloads", "split_stream"]

_CHUNK: Final = 1024 * 1024


class WorkloadError(Exception):
    """A workload cannot be read."""


async def read_workload(descriptor: int) -> bytes:
    """Read a file to its end."""
    return b"".join([chunk async for chunk in _read_chunks(descriptor)])


def read_workloads(descriptor: int, separator: bytes, *, keep: bool = False) -> AsyncIterator[bytes]:
    """
    Read the parts of an open file.

    Args:
        descriptor: The file.
        separator: As for :func:`split_stream`.
        keep: As for :func:`split_stream`.
    """
    return split_stream(_read_chunks(descriptor), separator, keep=keep)


async def split_stream(chunks: AsyncIterator[bytes], separator: bytes, *, keep: bool = False) -> AsyncIterator[bytes]:
    """
    Split a stream into parts, each as soon as it is complete. What follows the last separator is a part unless empty.

    Args:
        chunks: The stream.
        separator: One byte, which ends a part.
        keep: Leave it at the end of each part.
    """
    rest: list[bytes] = []  # of a part whose end has not come; a list, so that a long part is joined once
    async for chunk in chunks:
        first, *others = chunk.split(separator)
        rest.append(first)
        for part in others:
            yield b"".join(rest) + (separator if keep else b"")
            rest = [part]
    if last := b"".join(rest):
        yield last


async def _read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    while chunk := await _read_chunk(descriptor):
        yield chunk


async def _read_chunk(descriptor: int) -> bytes:
    """
    Read what there is, in a thread for which nobody waits when the command ends.

    A terminal or a pipe may have nothing for long; and to make it non-blocking would make it so for all who share it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            tell(outcome.set_exception, WorkloadError(f"the workload cannot be read: {error.strerror}"))
        else:
            tell(outcome.set_result, chunk)

    def tell(end: Callable[[Any], None], value: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: None if outcome.done() else end(value))

    threading.Thread(target=read, daemon=True).start()
    return await outcome
