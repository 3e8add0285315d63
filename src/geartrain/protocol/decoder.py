"""
Decodes bytes in any chunking into runs of packets.

A run is a sequence of packets of one type: ``(type, [body, body, ...])``. Under load job servers reply in long runs,
and a receiver then chooses what to do once per run rather than once per packet. The order of packets is kept.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Container, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.long_packet import LONG_PACKET, LONG_PACKET_SIZE, LongPacket, SkippedPacket
from geartrain.protocol.packets import HEADER, OVERSIZE, PACKETS, REQUEST, RESPONSE, PacketType

__all__ = ["DEFAULT_MAX_SIZE", "TEXT_LINE", "WRONG_MAGIC", "Decoder", "Run"]

DEFAULT_MAX_SIZE: Final = 64 * 1024 * 1024

TEXT_LINE: Final = -1  # in place of a packet type: a line of the text protocol, without its LF
WRONG_MAGIC: Final = -2  # in place of a packet type: a complete packet with the magic of the other direction

_HEADER_SIZE: Final = HEADER.size
_MAX_LINE: Final = 8191  # gearmand closes the connection on a longer one
_MAX_HEAD: Final = 8192  # bytes; the limit of gearmand for all arguments before the last together
_MAX_SKIPPED: Final = 64  # times the limit; a longer packet is not skipped, but ends the connection
_SKIPPED_STEP: Final = 64 * 1024
_SMALL: Final = 4096  # bytes; shorter pieces are joined, because a separate object takes up to forty times their size

Run = tuple[int, list[bytes]]


class Decoder:
    """
    Turns received bytes into complete packets. It never raises on them: the error is kept in ``failure``.

    Args:
        magic: :data:`REQUEST` on a job server's side, :data:`RESPONSE` on a client's or worker's.
        max_size: The maximum size in bytes of the last argument of a packet. A larger packet fails when its header
            arrives, before any of it is stored.
        limits: The maximum size in bytes of the whole body, for packet types with a separate limit.
        skipped: Packet types that do not fail when they are over ``max_size``, unless they are 64 times as long. They
            are returned as ``(OVERSIZE - type, [body])`` when the arguments before the last have arrived, with the last
            argument replaced by its length; the rest is dropped as it arrives.
        text: Accept a message that does not begin with NUL as a line up to LF, returned as :data:`TEXT_LINE`.
        long_types: Packet types whose long packets are returned as ``(LONG_PACKET - type, [argument, argument, ...])``,
            without a copy of the last argument.
    """

    __slots__ = (
        "_chunks",
        "_held",
        "_limits",
        "_long",
        "_long_types",
        "_magic",
        "_max_size",
        "_needed",
        "_skipped",
        "_smallest_limit",
        "_text",
        "failure",
    )

    def __init__(
        self,
        magic: int,
        max_size: int = DEFAULT_MAX_SIZE,
        *,
        text: bool = False,
        long_types: Container[int] = (),
        limits: Mapping[int, int] = MappingProxyType({}),
        skipped: Container[int] = (),
    ) -> None:
        self._magic = magic
        self._max_size = max_size
        self._text = text
        self._long_types = long_types
        self._limits = limits
        self._smallest_limit = min([max_size, *limits.values()])
        self._skipped = skipped
        self._long: LongPacket | SkippedPacket | None = None  # the packet that is arriving, if it is a long one
        # The beginning of a packet in the pieces in which it arrived. They are joined once, when the packet is
        # complete, so that a large body costs time linear in its size.
        self._chunks: list[bytes | bytearray] = []
        self._held = 0
        self._needed = 0
        self.failure: RemoteProtocolError | None = None

    @property
    def held(self) -> int:
        """The number of stored bytes of an incomplete packet."""
        return self._held

    @property
    def progress(self) -> int:
        """
        A number that changes as an incomplete packet arrives.

        For a packet that is skipped it changes every 64 KiB. If a peer announces gigabytes, everything after that is
        skipped, including replies to probes; these few bytes must not look like a packet that is arriving.
        """
        return self._long.arrived // _SKIPPED_STEP if isinstance(self._long, SkippedPacket) else self._held

    @property
    def arrived(self) -> int:
        """The number of bytes received of an incomplete packet, whether stored or skipped."""
        return self._long.arrived if isinstance(self._long, SkippedPacket) else self._held

    def feed(self, data: bytes) -> list[Run]:
        """
        Receive bytes and return the packets that they complete, as runs in the order of arrival.

        On a failure it returns the packets before the fault, sets ``failure``, and ignores everything after it.
        """
        if self.failure is not None:
            return []
        runs: list[Run] = []
        if self._long is not None:
            rest = self._continue_long(self._long, data, runs)
            if rest is None:
                return runs
            data = rest
        if self._chunks:
            self._hold(data)
            if self._held < self._needed or self._is_within_line(data):
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        position = self._decode_packets(data, 0, runs)
        if self._text:
            position = self._text_and_packets(data, position, runs)
        self._held = len(data) - position
        if self._held and self.failure is None:
            data = data[position:]
            if self._needed < LONG_PACKET_SIZE or not self._begin_long(data):
                self._chunks.append(data)
        return runs

    def _begin_long(self, data: bytes) -> bool:
        """Start receiving a packet as a long one, if its type allows and its first arguments have arrived."""
        magic, kind, size = HEADER.unpack_from(data)
        if kind in self._long_types and magic == self._magic:
            names = len(PACKETS[PacketType(kind)].arguments)
            self._long = LongPacket.begin(kind, names, data[_HEADER_SIZE:], size)
        return self._long is not None

    def _continue_long(self, packet: LongPacket | SkippedPacket, data: bytes, runs: list[Run]) -> bytes | None:
        """Continue a long packet; return the bytes after it, or ``None`` if there are none yet."""
        missing = packet.missing
        packet.take(memoryview(data)[:missing])
        if isinstance(packet, LongPacket):
            self._held += min(missing, len(data))
        if packet.missing:
            return None
        self._long = None
        if isinstance(packet, LongPacket):
            self._held = 0
            runs.append((LONG_PACKET - packet.kind, packet.arguments()))
        return data[missing:] or None

    def _is_within_line(self, data: bytes) -> bool:
        """Whether the stored pieces, ``data`` last, are an incomplete line; scans only ``data``, to stay linear."""
        return not self._needed and bool(self._chunks[0][0]) and b"\n" not in data and self._held <= _MAX_LINE

    def _hold(self, data: bytes) -> None:
        """Store another piece of an incomplete packet."""
        self._held += len(data)
        if len(data) >= _SMALL:
            self._chunks.append(data)
        elif isinstance(last := self._chunks[-1], bytearray):
            last += data
        else:
            self._chunks.append(bytearray(data))

    def _decode_packets(self, data: bytes, position: int, runs: list[Run]) -> int:
        """Append the complete packets from ``position`` on to ``runs``; return where an incomplete one begins."""
        # The hot loop of all receivers: 0.15 us per packet. One unpack for the header, one slice for the body.
        unpack = HEADER.unpack_from
        expected, max_size, smallest_limit = self._magic, self._max_size, self._smallest_limit
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
            end = position + _HEADER_SIZE + size
            if size > smallest_limit and size > self._limits.get(kind, max_size):
                head = self._find_head(data, position, kind, size)
                if head is None:
                    return position
                if size - len(head) > max_size:
                    runs.append((OVERSIZE - kind, [b"%b%d" % (head, size - len(head))]))
                    run_kind = None
                    if end > length:
                        self._long = SkippedPacket(length - position, end - length)
                    position = min(end, length)
                    continue
            if end > length:
                self._needed = end - position
                return position
            if kind != run_kind:
                run_kind, bodies = kind, []
                runs.append((kind, bodies))
            elif size == run_size and size <= max_size:
                position = _decode_uniform_run(data, position, size, bodies)
                continue
            bodies.append(data[position + _HEADER_SIZE : end])
            run_size, position = size, end
        self._needed = 0  # any further byte may show that it is not a packet, or end a line of text
        start = data[position : position + 4]
        if not (b"\0REQ".startswith(start) or b"\0RES".startswith(start)) and not (self._text and start[0]):
            self._fail(f"a packet must begin with \\0REQ or \\0RES, got {start!r}")
        return position

    def _find_head(self, data: bytes, position: int, kind: int, size: int) -> bytes | None:
        """
        Return the arguments before the last, each with its NUL, of a packet that is over its limit.

        Arguments that are too long are left out. ``None`` means that the connection has failed, or that more bytes are
        needed.
        """
        if kind not in self._skipped or size > _MAX_SKIPPED * self._max_size:
            limit = self._limits.get(kind, self._max_size)
            self._fail(f"a packet of type {kind} announced {size} bytes; the limit is {limit}")
            return None
        wanted = min(size, _MAX_HEAD)
        begin = position + _HEADER_SIZE
        here = data[begin : begin + wanted]
        if len(here) < wanted:
            self._needed = _HEADER_SIZE + wanted
            return None
        *head, _ = here.split(b"\0", len(PACKETS[PacketType(kind)].arguments) - 1)
        return here[: sum(map(len, head)) + len(head)]

    def _text_and_packets(self, data: bytes, position: int, runs: list[Run]) -> int:
        """Do the same as :meth:`_decode_packets`, from a ``position`` where a line of text may begin."""
        while self.failure is None and position < len(data) and data[position]:
            # Take all consecutive lines at once: one by one, they take twenty times as long. A line may contain NULs.
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
            position = self._decode_packets(data, end + 1, runs)
        return position

    def _fail(self, reason: str) -> None:
        self.failure = RemoteProtocolError(reason)


def _decode_uniform_run(data: bytes, position: int, size: int, bodies: list[bytes]) -> int:
    """Append the bodies of packets with identical headers from ``position`` on; return where they end."""
    # Handles and many results have the same length, so under load these are most packets: 0.06 us per packet.
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


@functools.lru_cache(maxsize=64)  # creating one takes as long as reading twenty packets
def _layout(size: int) -> struct.Struct:
    return struct.Struct(f"{_HEADER_SIZE}s{size}s")
