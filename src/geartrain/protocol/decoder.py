"""
Bytes in any chunking become runs of packets.

A run is what came in a row of one type: ``(type, [body, body, ...])``. Under load job servers answer in long runs, and
a receiver then pays for choosing what to do once a run, not once a packet. The order of packets is kept.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Container
from itertools import takewhile
from typing import Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.apart import APART, LONG, Apart
from geartrain.protocol.packets import HEADER, PACKETS, REQUEST, RESPONSE, PacketType

__all__ = ["DEFAULT_MAX_SIZE", "TEXT_LINE", "WRONG_MAGIC", "Decoder", "Run"]

DEFAULT_MAX_SIZE: Final = 64 * 1024 * 1024

TEXT_LINE: Final = -1  # in place of a packet type: a line of the text protocol, without its LF
WRONG_MAGIC: Final = -2  # in place of a packet type: a whole packet with the magic of the other direction

_HEADER_SIZE: Final = HEADER.size
_MAX_LINE: Final = 8191  # gearmand closes the connection on a longer one
_SMALL: Final = 4096  # bytes; shorter pieces are gathered: each for itself takes up to forty times what it holds

Run = tuple[int, list[bytes]]


class Decoder:
    """
    Takes bytes as they come and gives whole packets. It never raises on them: the error is kept in ``failure``.

    Args:
        magic: :data:`REQUEST` on a job server's side, :data:`RESPONSE` on a client's or worker's.
        max_size: The longest body in bytes that is taken. A longer one fails as soon as its header is here, before
            any of it is held.
        text: Take a message that does not begin with NUL as a line up to LF, given as :data:`TEXT_LINE`.
        apart: Packet types of which long ones are given as ``(APART - type, [argument, argument, ...])``, so that the
            last argument is nowhere copied.
    """

    __slots__ = ("_apart", "_chunks", "_held", "_long", "_magic", "_max_size", "_needed", "_text", "failure")

    def __init__(
        self, magic: int, max_size: int = DEFAULT_MAX_SIZE, *, text: bool = False, apart: Container[int] = ()
    ) -> None:
        self._magic = magic
        self._max_size = max_size
        self._text = text
        self._apart = apart
        self._long: Apart | None = None  # the packet that is coming, if it is such
        # The beginning of a packet, in the pieces in which it came: joined once, when the last piece is here, so that
        # a large body costs time linear in its size.
        self._chunks: list[bytes | bytearray] = []
        self._held = 0
        self._needed = 0
        self.failure: RemoteProtocolError | None = None

    @property
    def held(self) -> int:
        """Bytes of an unfinished packet that are waiting for the rest."""
        return self._held

    def feed(self, data: bytes) -> list[Run]:
        """
        Take bytes and return what they complete, as runs in the order of arrival.

        After a failure it returns what came before the fault, sets ``failure``, and ignores all that follows.
        """
        if self.failure is not None:
            return []
        runs: list[Run] = []
        if self._long is not None:
            rest = self._go_on(self._long, data, runs)
            if rest is None:
                return runs
            data = rest
        if self._chunks:
            self._hold(data)
            if self._held < self._needed:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        position = self._packets(data, 0, runs)
        if self._text:
            position = self._text_and_packets(data, position, runs)
        self._held = len(data) - position
        if self._held and self.failure is None:
            data = data[position:]
            if self._needed < LONG or not self._begin_long(data):
                self._chunks.append(data)
        return runs

    def _begin_long(self, data: bytes) -> bool:
        """Begin to take a packet apart, if it is one of those and enough of it is here."""
        magic, kind, size = HEADER.unpack_from(data)
        if kind in self._apart and magic == self._magic:
            names = len(PACKETS[PacketType(kind)].arguments)
            self._long = Apart.begin(kind, names, data[_HEADER_SIZE:], size)
        return self._long is not None

    def _go_on(self, packet: Apart, data: bytes, runs: list[Run]) -> bytes | None:
        """Go on with a packet that is taken apart; return what comes after it, ``None`` if that is yet to come."""
        missing = packet.missing
        packet.take(memoryview(data)[:missing])
        self._held += min(missing, len(data))
        if packet.missing:
            return None
        self._long = None
        self._held = 0
        runs.append((APART - packet.kind, packet.arguments()))
        return data[missing:] or None

    def _hold(self, data: bytes) -> None:
        """Keep one more piece of an unfinished packet."""
        self._held += len(data)
        if len(data) >= _SMALL:
            self._chunks.append(data)
        elif isinstance(last := self._chunks[-1], bytearray):
            last += data
        else:
            self._chunks.append(bytearray(data))

    def _packets(self, data: bytes, position: int, runs: list[Run]) -> int:
        """Append the whole packets from ``position`` on to ``runs``; return where the first that is none begins."""
        # The hot loop of every side: 0.15 us a packet. One unpack for the header, one slice for the body.
        unpack = HEADER.unpack_from
        expected, max_size = self._magic, self._max_size
        length = len(data)
        run_kind: int | None = None
        run_size = 0  # of the last packet of the run
        bodies: list[bytes] = []
        while length - position >= _HEADER_SIZE:
            magic, kind, size = unpack(data, position)
            if magic != expected:
                if magic not in (REQUEST, RESPONSE):
                    break
                kind = WRONG_MAGIC
            if size > max_size:
                self._fail(f"a packet of type {kind} announced {size} bytes; at most {max_size} are taken")
                return position
            end = position + _HEADER_SIZE + size
            if end > length:
                self._needed = end - position
                return position
            if kind != run_kind:
                run_kind, bodies = kind, []
                runs.append((kind, bodies))
            elif size == run_size:
                position = _take_alike(data, position, size, bodies)
                continue
            bodies.append(data[position + _HEADER_SIZE : end])
            run_size, position = size, end
        self._needed = 0  # any further byte may show that it is no packet, or end a line of text
        start = data[position : position + 4]
        if not (b"\0REQ".startswith(start) or b"\0RES".startswith(start)) and not (self._text and start[0]):
            self._fail(f"a packet begins with \\0REQ or \\0RES, got {start!r}")
        return position

    def _text_and_packets(self, data: bytes, position: int, runs: list[Run]) -> int:
        """Go on as :meth:`_packets`, now that what stands at ``position`` may be a line of text."""
        while self.failure is None and position < len(data) and data[position]:
            # All lines in a row at once: one by one they take twenty times as long. A NUL within a line is part of it.
            end = data.find(b"\n\0", position)
            if end < 0:
                end = data.rfind(b"\n", position)
            whole = end >= 0
            lines = data[position : end if whole else None].split(b"\n")
            if max(map(len, lines)) > _MAX_LINE:
                self._fail(f"a line of text is longer than {_MAX_LINE} bytes")
                lines = list(takewhile(lambda line: len(line) <= _MAX_LINE, lines))
            if whole and lines:
                if not runs or runs[-1][0] != TEXT_LINE:
                    runs.append((TEXT_LINE, []))
                runs[-1][1].extend(lines)
            if not whole or self.failure is not None:
                break
            position = self._packets(data, end + 1, runs)
        return position

    def _fail(self, reason: str) -> None:
        self.failure = RemoteProtocolError(reason)


def _take_alike(data: bytes, position: int, size: int, bodies: list[bytes]) -> int:
    """Append the bodies of packets with one and the same header, from ``position`` on; return where they end."""
    # Handles, and many results, are of one length, so under load this is most of what comes: 0.06 us a packet.
    length = _HEADER_SIZE + size
    end = position + (len(data) - position) // length * length
    header = data[position : position + _HEADER_SIZE]
    before = len(bodies)
    append = bodies.append
    for found, body in _layout(size).iter_unpack(memoryview(data)[position:end]):
        if found != header:
            break
        append(body)
    return position + (len(bodies) - before) * length


@functools.lru_cache(maxsize=64)  # to make one takes as long as to read twenty packets
def _layout(size: int) -> struct.Struct:
    return struct.Struct(f"{_HEADER_SIZE}s{size}s")
