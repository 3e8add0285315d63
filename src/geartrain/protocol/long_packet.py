"""Incremental receivers for one large packet: the last argument is buffered without an extra copy, or skipped."""

from __future__ import annotations

import io
from typing import Final

__all__ = ["LONG_PACKET", "LONG_PACKET_SIZE", "LongPacket", "SkippedPacket"]

LONG_PACKET_SIZE: Final = 256 * 1024  # bytes; a shorter body is cheaper to copy than to treat specially
LONG_PACKET: Final = -100  # minus a packet type, in place of the type: the run is the arguments of one packet

_MAX_HEAD: Final = 4096  # bytes of the arguments before the last; longer ones are not searched for


class LongPacket:
    """
    A packet whose arguments before the last have arrived.

    Args:
        kind: Its type.
        head: The arguments before the last.
        size: The size of the last one in bytes.
    """

    __slots__ = ("_buffer", "_head", "_size", "kind", "missing")

    def __init__(self, kind: int, head: list[bytes], size: int) -> None:
        self.kind: int = kind
        self.missing: int = size
        self._head = head
        self._size = size
        self._buffer = io.BytesIO()

    @classmethod
    def begin(cls, kind: int, names: int, body: bytes, size: int) -> LongPacket | None:
        """Begin with the part of a body that has arrived; return ``None`` if earlier arguments are still incomplete."""
        *head, _ = body[:_MAX_HEAD].split(b"\0", names - 1)
        if len(head) < names - 1:
            return None
        begin = sum(map(len, head)) + len(head)
        packet = cls(kind, head, size - begin)
        packet.take(memoryview(body)[begin:])
        return packet

    def take(self, data: memoryview) -> None:
        """Append the next bytes of the last argument."""
        half = self._size // 2
        before = self._size - self.missing
        self._buffer.write(data)
        self.missing -= len(data)
        if before < half <= before + len(data) and self.missing:
            # Allocate the rest exactly, because a growing buffer takes more than it needs; but only once half of it has
            # arrived, because announcing a large packet costs a peer nothing.
            position = self._buffer.tell()
            self._buffer.seek(self._size - 1)
            self._buffer.write(b"\0")
            self._buffer.seek(position)

    def arguments(self) -> list[bytes]:
        """Return all arguments. Nothing is copied, because the buffer is exactly full."""
        return [*self._head, self._buffer.getvalue()]


class SkippedPacket:
    """
    The rest of a packet that is over the limit.

    Args:
        arrived: The number of bytes of the packet that have arrived.
        missing: The number of bytes that have not.
    """

    __slots__ = ("arrived", "missing")

    def __init__(self, arrived: int, missing: int) -> None:
        self.arrived: int = arrived
        self.missing: int = missing

    def take(self, data: memoryview) -> None:
        """Drop the next bytes."""
        self.arrived += len(data)
        self.missing -= len(data)
