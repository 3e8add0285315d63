"""
Show that each parser of bytes from the network takes linear time: ``python -m benchmarks parsers``.

Each parser is measured on a worst-case input whose size is doubled at each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from geartrain.address import Address
from geartrain.handle import JobHandle, JobStatus
from geartrain.printable import printable
from geartrain.protocol import text
from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.numbers import c_integer, c_uint32, parse_number
from geartrain.protocol.packets import HEADER, PACKETS, REQUEST, RESPONSE, PacketType, describe
from geartrain.protocol.server import dispatch
from geartrain.protocol.server.broker import Broker
from geartrain.protocol.text import TextProtocol
from geartrain.protocol.worker import WorkerProtocol

__all__ = ["PARSERS", "Parser", "main"]

SIZES: Final = tuple(2**power for power in range(14, 21))
REPETITIONS: Final = 5

Parse = Callable[[bytes], object]


class Parser(NamedTuple):
    """
    A parser.

    Attributes:
        group: The kind of input it parses.
        detail: The variant of that kind.
        parse: Parses bytes and ignores protocol errors.
        pattern: Bytes that are repeated to build an input.
        head: Bytes at the beginning of the input.
    """

    group: str
    detail: str
    parse: Parse
    pattern: bytes
    head: bytes = b""

    def input(self, size: int) -> bytes:
        """Return an input of ``size`` bytes."""
        repeated = self.pattern * (size // len(self.pattern) + 1)
        return (self.head + repeated)[:size]


# Numbers and names.


def _job_status(data: bytes) -> object:
    return JobStatus.read([b"H:1", b"1", b"1", data, data, data])


def _address(data: bytes) -> object:
    try:
        return Address.parse(data.decode("latin-1"))
    except ValueError:
        return None


def _handle(data: bytes) -> object:
    try:
        return JobHandle.parse(data.decode("latin-1")).wire
    except ValueError:
        return None


# Packets and lines.


def _pieces(data: bytes, size: int | None) -> Iterator[bytes]:
    if size is None:
        yield data
    else:
        for start in range(0, len(data), size):
            yield data[start : start + size]


def _decoder(magic: int, *, lines: bool = False, piece: int | None = None, long_types: Sequence[int] = ()) -> Parse:
    def parse(data: bytes) -> object:
        decoder = Decoder(magic, text=lines, long_types=long_types)
        return [decoder.feed(part) for part in _pieces(data, piece)]

    return parse


def _packet(magic: int, kind: int, body: bytes) -> bytes:
    return HEADER.pack(magic, kind, len(body)) + body


class _Handler:
    """Ignores everything that a job server sends."""

    expects = PacketType.JOB_CREATED
    argument = b"H:1"
    merges = False
    expects_results = True
    ticket: Any = None

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *arguments: True


def _nothing(*arguments: object) -> None:
    pass


def _to_client(kind: PacketType) -> Parse:
    """Return a parser that feeds a packet to a client: one for its job, or the response to its request."""

    def parse(data: bytes) -> object:
        client = ClientProtocol(_nothing, _nothing)
        handler: Any = _Handler()
        client.send_submission(handler, PacketType.SUBMIT_JOB, b"f\0\0", b"")
        client.receive_data(_packet(RESPONSE, PacketType.JOB_CREATED, b"H:1"))
        handler.expects = kind
        client.send_query(handler, PacketType.GET_STATUS)
        client.receive_data(_packet(RESPONSE, kind, b"H:1\0" + data))
        return client.failure

    return parse


def _to_worker(kind: PacketType) -> Parse:
    def parse(data: bytes) -> object:
        worker = WorkerProtocol(_nothing, on_error=_nothing)
        worker.send_can_do(b"f")
        worker.send_grab()
        worker.receive_data(_packet(RESPONSE, kind, b"H:1\0f\0" + data), 0.0)
        return worker.failure

    return parse


def _to_server(kind: PacketType | None, *, piece: int | None = None) -> Parse:
    """Return a parser that feeds a job server a packet of a worker that has a job or, without ``kind``, lines."""
    setup = (
        _packet(REQUEST, PacketType.CAN_DO, b"f")
        + _packet(REQUEST, PacketType.SUBMIT_JOB_BG, b"f\0\0")
        + _packet(REQUEST, PacketType.GRAB_JOB, b"")
    )

    def parse(data: bytes) -> object:
        broker = Broker(handle_prefix=b"H")
        peer = broker.add_peer("127.0.0.1", 7)
        dispatch.receive(broker, peer, setup, 0.0)
        peer.take_outgoing()
        for part in _pieces(data if kind is None else _packet(REQUEST, kind, b"H:1\0" + data), piece):
            dispatch.receive(broker, peer, part, 0.0)
            peer.take_outgoing()
            while peer.pending_requests and peer.failure is None:
                dispatch.resume(broker, peer, 0.0)
                peer.take_outgoing()
        return peer.failure

    return parse


def _answer(command: text.Command[Any], *, piece: int | None = None) -> Parse:
    def parse(data: bytes) -> object:
        protocol = TextProtocol()
        protocol.send_command(command, on_reply=_nothing)
        for part in _pieces(data, piece):
            protocol.receive_data(part)
        return protocol.failure

    return parse


def _log_line(kind: int) -> Parse:
    return lambda data: describe(kind, data)


_P: Final = PacketType
_SHORT: Final = _packet(REQUEST, _P.ECHO_REQ, b"") + _packet(REQUEST, _P.PRE_SLEEP, b"a")
_ROWS: Final = {
    text.STATUS: b"name\t12\t3\t4\n",
    text.PRIORITY_STATUS: b"name\t1\t2\t3\t4\n",
    text.SHOW_JOBS: b"H:1\t1\t0\t0\n",
}
_LISTS: Final = (text.STATUS, text.PRIORITY_STATUS, text.SHOW_JOBS, text.SHOW_UNIQUE_JOBS, text.WORKERS)
_SINGLE: Final = (text.VERSION, text.GETPID, text.VERBOSE, text.MAXQUEUE, text.SHUTDOWN)

PARSERS: Final = (
    Parser("a number in a status", "", parse_number, b"9"),
    Parser("a number in a status", "as C reads it", c_uint32, b"0"),
    Parser("a number in a status", "as C reads it, white space", c_integer, b" "),
    Parser("a number in a status", "all of STATUS_RES", _job_status, b"9"),
    Parser("an address", "", _address, b":"),
    Parser("an address", "IPv6", _address, b"1:", b"["),
    Parser("a handle", "", _handle, b"/", b"127.0.0.1:4730//"),
    *(Parser("a packet at the client", k.name, _to_client(k), b"9") for k, p in PACKETS.items() if p.from_server),
    *(Parser("a packet at the worker", k.name, _to_worker(k), b"9\0") for k, p in PACKETS.items() if p.from_server),
    *(Parser("a packet at the job server", k.name, _to_server(k), b"9\0") for k, p in PACKETS.items() if p.to_server),
    Parser("many packets", "", _decoder(REQUEST), _SHORT),
    Parser("many packets", "in pieces of 7 bytes", _decoder(REQUEST, piece=7), _SHORT),
    Parser("many packets", "lines between them", _decoder(REQUEST, lines=True), b"status\n" + _SHORT),
    Parser("one packet in pieces of 7 bytes", "", _decoder(REQUEST, piece=7), b"\0", b"\0REQ\0\0\0\x10\x01\0\0\0"),
    Parser(
        *(
            "one packet in pieces of 7 bytes",
            "a long result",
            _decoder(RESPONSE, piece=7, long_types=(_P.WORK_COMPLETE,)),
        ),
        *(b"H:1\0", b"\0RES\0\0\0\x0d\x01\0\0\0"),
    ),
    Parser("text commands", "", _to_server(None), b"maxqueue f 1 2 3\n"),
    Parser("text commands", "empty", _to_server(None), b"\r\n"),
    Parser("text commands", "many words", _to_server(None), b"show" + b" " * 100 + b"\n"),
    Parser("text commands in pieces of 1 byte", "", _to_server(None, piece=1), b"version" + b" " * 100 + b"\n"),
    Parser("text commands in pieces of 1 byte", "no end", _decoder(REQUEST, lines=True, piece=1), b"status "),
    *(Parser("a text answer", c.name, _answer(c), _ROWS.get(c, b"7 ::1 - : f g\n")) for c in _LISTS),
    *(Parser("a text answer", c.name, _answer(c), b" ", b"OK ") for c in _SINGLE),
    *(Parser("a text answer of one line", c.name, _answer(c), b"7 ::1 : \t1") for c in _LISTS),
    *(Parser("a text answer of one line", f"ERR to {c.name}", _answer(c), b" ", b"ERR ") for c in (*_LISTS, *_SINGLE)),
    *(
        Parser("a text answer in pieces of 7 bytes", c.name, _answer(c, piece=7), b"7 ::1 - :: f\t1\n", b"7 ::1 ")
        for c in _LISTS
    ),
    *(Parser("a line of the log", kind.name, _log_line(kind), b"\x1b\0") for kind in PACKETS),
    Parser("a line of the log", "an unknown packet", _log_line(4711), b"\x1b\0"),
    Parser("text made printable", "shortened", printable, b"\x1b"),
    Parser("text made printable", "", lambda data: printable(data, None), b"\x1b"),
)


# The table.


def measure(parser: Parser, size: int) -> float:
    """Return the nanoseconds of CPU that a parser takes for each byte: the minimum of some repetitions."""
    data = parser.input(size)
    times = []
    for _ in range(REPETITIONS):
        begin = time.thread_time_ns()
        parser.parse(data)
        times.append(time.thread_time_ns() - begin)
    return min(times) / size


def main() -> None:
    """Write the table with the slowest parser of each group for the longest input."""
    print("| ns/byte |", " | ".join(f"{size // 1024} KiB" for size in SIZES), "|")
    print("|---" * (len(SIZES) + 1) + "|")
    for group in dict.fromkeys(parser.group for parser in PARSERS):
        slowest = max((p for p in PARSERS if p.group == group), key=lambda parser: measure(parser, SIZES[-1]))
        figures = " | ".join(f"{measure(slowest, size):.2f}" for size in SIZES)
        print(f"| {slowest.group}{slowest.detail and f' ({slowest.detail})'} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
