"""Reads workloads from standard input or a file, whole or split at a separator."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

__all__ = ["MAX_WORKLOAD", "WorkloadError", "read_workload", "read_workloads", "split_stream"]

MAX_WORKLOAD: Final = 64 * 1024 * 1024  # bytes; the default max_packet_size of Client

_CHUNK: Final = 1024 * 1024


class WorkloadError(Exception):
    """A workload cannot be read."""


async def read_workload(descriptor: int) -> bytes:
    """Read a file to its end; stop early, with more than :data:`MAX_WORKLOAD` bytes, if it is too long."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in _read_chunks(descriptor):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_WORKLOAD:
            break
    return b"".join(chunks)


def read_workloads(descriptor: int, separator: bytes, *, keep_separator: bool = False) -> AsyncIterator[bytes]:
    """
    Read an open file and split it into workloads.

    A workload that is too long is cut off after more than :data:`MAX_WORKLOAD` bytes.

    Args:
        descriptor: The file.
        separator: As for :func:`split_stream`.
        keep_separator: As for :func:`split_stream`.
    """
    return split_stream(_read_chunks(descriptor), separator, keep_separator=keep_separator, max_size=MAX_WORKLOAD)


async def split_stream(
    chunks: AsyncIterator[bytes], separator: bytes, *, keep_separator: bool = False, max_size: int | None = None
) -> AsyncIterator[bytes]:
    """
    Split a stream into parts and yield each one as soon as it is complete.

    The rest after the last separator is yielded as well, unless it is empty.

    Args:
        chunks: The stream.
        separator: A single byte that ends a part.
        keep_separator: Leave the separator at the end of each part.
        max_size: If a part is longer, drop the chunks that arrive after its size has exceeded this.
    """
    pending: list[bytes] = []  # of the incomplete part; a list, so that a long part is joined only once
    size = 0
    async for chunk in chunks:
        first, *others = chunk.split(separator)
        if max_size is None or size <= max_size:
            pending.append(first)
            size += len(first)
        for part in others:
            yield b"".join(pending) + (separator if keep_separator else b"")
            pending = [part]
            size = len(part)
    if last := b"".join(pending):
        yield last


async def _read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    while chunk := await _read_chunk(descriptor):
        yield chunk


async def _read_chunk(descriptor: int) -> bytes:
    """
    Read what is available, in a daemon thread that does not delay the end of the command.

    A read from a terminal or a pipe may block for a long time. Making the descriptor non-blocking would affect every
    process that shares it.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            resolve(result.set_exception, WorkloadError(f"cannot read the workload: {error.strerror}"))
        else:
            resolve(result.set_result, chunk)

    def resolve(set_outcome: Callable[[Any], None], value: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: None if result.done() else set_outcome(value))

    threading.Thread(target=read, daemon=True).start()
    return await result
