r"""
Gearman's binary packets: types, the table of arguments, and encoding.

Layout: ``4s magic | u32 type | u32 size | size bytes of body`` (big-endian). The body is the arguments joined by one
NUL each, with none after the last.

Source: gearmand ``PROTOCOL``, "Binary Packet"; where job servers differ, their behaviour (``docs/wire-notes.md``).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.printable import printable

__all__ = [
    "HEADER",
    "LIMITS",
    "MAX_HANDLE",
    "MAX_NAME",
    "OVERSIZE",
    "PACKETS",
    "REQUEST",
    "RESPONSE",
    "PacketSpec",
    "PacketType",
    "check_limits",
    "describe",
    "encode",
    "encode_submission",
    "encode_submissions",
    "max_body",
    "split",
]

REQUEST: Final = 0x00524551  # "\0REQ", towards a job server
RESPONSE: Final = 0x00524553  # "\0RES", from a job server
HEADER: Final = struct.Struct(">III")  # magic, type, size
MAX_HANDLE: Final = 63  # gearmand does not answer requests with a longer one


class PacketType(enum.IntEnum):
    """Every packet type, spelled as in PROTOCOL. The number 5 is unused."""

    CAN_DO = 1
    CANT_DO = 2
    RESET_ABILITIES = 3
    PRE_SLEEP = 4
    NOOP = 6
    SUBMIT_JOB = 7
    JOB_CREATED = 8
    GRAB_JOB = 9
    NO_JOB = 10
    JOB_ASSIGN = 11
    WORK_STATUS = 12
    WORK_COMPLETE = 13
    WORK_FAIL = 14
    GET_STATUS = 15
    ECHO_REQ = 16
    ECHO_RES = 17
    SUBMIT_JOB_BG = 18
    ERROR = 19
    STATUS_RES = 20
    SUBMIT_JOB_HIGH = 21
    SET_CLIENT_ID = 22
    CAN_DO_TIMEOUT = 23
    ALL_YOURS = 24
    WORK_EXCEPTION = 25
    OPTION_REQ = 26
    OPTION_RES = 27
    WORK_DATA = 28
    WORK_WARNING = 29
    GRAB_JOB_UNIQ = 30
    JOB_ASSIGN_UNIQ = 31
    SUBMIT_JOB_HIGH_BG = 32
    SUBMIT_JOB_LOW = 33
    SUBMIT_JOB_LOW_BG = 34
    SUBMIT_JOB_SCHED = 35
    SUBMIT_JOB_EPOCH = 36
    SUBMIT_REDUCE_JOB = 37
    SUBMIT_REDUCE_JOB_BACKGROUND = 38
    GRAB_JOB_ALL = 39
    JOB_ASSIGN_ALL = 40
    GET_STATUS_UNIQUE = 41
    STATUS_RES_UNIQUE = 42


class PacketSpec(NamedTuple):
    """
    How PROTOCOL defines one packet type.

    Attributes:
        to_server: A client or worker may send it (with magic REQUEST).
        from_server: A job server may send it (with magic RESPONSE).
        arguments: The names of its arguments in order. Only the last may contain NULs.
    """

    to_server: bool
    from_server: bool
    arguments: tuple[str, ...] = ()


_SUBMIT = PacketSpec(True, False, ("function", "unique", "workload"))
# PROTOCOL names three arguments before the workload; gearmand requires a fourth, and ignores it.
_REDUCE = PacketSpec(True, False, ("function", "unique", "reducer", "ignored", "workload"))
_GRAB = PacketSpec(True, False)

PACKETS: Final[Mapping[PacketType, PacketSpec]] = {
    PacketType.CAN_DO: PacketSpec(True, False, ("function",)),
    PacketType.CANT_DO: PacketSpec(True, False, ("function",)),
    PacketType.RESET_ABILITIES: PacketSpec(True, False),
    PacketType.PRE_SLEEP: PacketSpec(True, False),
    PacketType.NOOP: PacketSpec(False, True),
    PacketType.SUBMIT_JOB: _SUBMIT,
    PacketType.JOB_CREATED: PacketSpec(False, True, ("handle",)),
    PacketType.GRAB_JOB: _GRAB,
    PacketType.NO_JOB: PacketSpec(False, True),
    PacketType.JOB_ASSIGN: PacketSpec(False, True, ("handle", "function", "workload")),
    PacketType.WORK_STATUS: PacketSpec(True, True, ("handle", "numerator", "denominator")),
    PacketType.WORK_COMPLETE: PacketSpec(True, True, ("handle", "data")),
    PacketType.WORK_FAIL: PacketSpec(True, True, ("handle",)),
    PacketType.GET_STATUS: PacketSpec(True, False, ("handle",)),
    PacketType.ECHO_REQ: PacketSpec(True, False, ("data",)),
    PacketType.ECHO_RES: PacketSpec(False, True, ("data",)),
    PacketType.SUBMIT_JOB_BG: _SUBMIT,
    PacketType.ERROR: PacketSpec(False, True, ("code", "text")),
    PacketType.STATUS_RES: PacketSpec(False, True, ("handle", "known", "running", "numerator", "denominator")),
    PacketType.SUBMIT_JOB_HIGH: _SUBMIT,
    PacketType.SET_CLIENT_ID: PacketSpec(True, False, ("client_id",)),
    PacketType.CAN_DO_TIMEOUT: PacketSpec(True, False, ("function", "timeout_ms")),
    PacketType.ALL_YOURS: PacketSpec(True, False),
    PacketType.WORK_EXCEPTION: PacketSpec(True, True, ("handle", "data")),
    PacketType.OPTION_REQ: PacketSpec(True, False, ("option",)),
    PacketType.OPTION_RES: PacketSpec(False, True, ("option",)),
    PacketType.WORK_DATA: PacketSpec(True, True, ("handle", "data")),
    PacketType.WORK_WARNING: PacketSpec(True, True, ("handle", "data")),
    PacketType.GRAB_JOB_UNIQ: _GRAB,
    PacketType.JOB_ASSIGN_UNIQ: PacketSpec(False, True, ("handle", "function", "unique", "workload")),
    PacketType.SUBMIT_JOB_HIGH_BG: _SUBMIT,
    PacketType.SUBMIT_JOB_LOW: _SUBMIT,
    PacketType.SUBMIT_JOB_LOW_BG: _SUBMIT,
    PacketType.SUBMIT_JOB_SCHED: PacketSpec(
        True, False, ("function", "unique", "minute", "hour", "day_of_month", "month", "day_of_week", "workload")
    ),
    PacketType.SUBMIT_JOB_EPOCH: PacketSpec(True, False, ("function", "unique", "epoch", "workload")),
    PacketType.SUBMIT_REDUCE_JOB: _REDUCE,
    PacketType.SUBMIT_REDUCE_JOB_BACKGROUND: _REDUCE,
    PacketType.GRAB_JOB_ALL: _GRAB,
    PacketType.JOB_ASSIGN_ALL: PacketSpec(False, True, ("handle", "function", "unique", "reducer", "workload")),
    PacketType.GET_STATUS_UNIQUE: PacketSpec(True, False, ("unique",)),
    # PROTOCOL says that the first argument is a handle; gearmand sends the unique.
    PacketType.STATUS_RES_UNIQUE: PacketSpec(
        False, True, ("unique", "known", "running", "numerator", "denominator", "waiting_clients")
    ),
}

MAX_NAME: Final = 1024
# Bytes of each argument that a client or worker accepts; the others are limited by max_packet_size only. PROTOCOL has
# 64 bytes for handle and unique, but Python's gear forwards uniques of 100, and Perl's server makes long handles.
LIMITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("handle", "function", "unique", "reducer", "option", "code"), MAX_NAME),
    "text": 64 * 1024,
}

# The decoder reports a packet whose last argument is over max_packet_size as OVERSIZE minus its type. In place of that
# argument its body has the length of the argument, in decimal.
OVERSIZE: Final = -200

_COPIED: Final = 65536  # bytes; copying a longer workload to join it with its header does not pay

# Never logged whole: it is the users' data, and may be long.
_ELIDED = frozenset({"workload", "data"})


def encode(kind: PacketType, *arguments: bytes, magic: int = REQUEST) -> bytes:
    """
    Serialize one packet.

    Args:
        kind: Its type.
        arguments: In the order of :data:`PACKETS`. All but the last must not contain NULs.
        magic: :data:`REQUEST` towards a job server, :data:`RESPONSE` from one.

    Raises:
        LocalProtocolError: If the number of arguments is wrong, or an argument other than the last contains a NUL.
    """
    names = PACKETS[kind].arguments
    if len(arguments) != len(names):
        raise LocalProtocolError(f"{kind.name} takes {len(names)} arguments ({', '.join(names)}), got {len(arguments)}")
    for name, argument in zip(names[:-1], arguments, strict=False):
        if b"\0" in argument:
            raise LocalProtocolError(f"{kind.name} cannot carry the {name} {argument!r}: it contains a NUL")
    body = b"\0".join(arguments)
    return HEADER.pack(magic, kind, len(body)) + body


def encode_submission(kind: int, head: bytes, workload: bytes) -> Sequence[bytes]:
    """
    Return the pieces of a SUBMIT_JOB packet.

    Args:
        kind: One of the SUBMIT_JOB packet types.
        head: All arguments but the workload, each with its NUL.
        workload: Any bytes.

    Returns:
        The pieces to send, in order. A long workload is a separate piece, and is not copied.
    """
    beginning = HEADER.pack(REQUEST, kind, len(head) + len(workload)) + head
    return (beginning + workload,) if len(workload) < _COPIED else (beginning, workload)


def encode_submissions(kind: int, head: bytes, workloads: Sequence[bytes]) -> Sequence[bytes]:
    """Return the pieces of packets that differ in their workloads only; see :func:`encode_submission`."""
    if len(workloads) == 1:
        return encode_submission(kind, head, workloads[0])
    # Most workloads have the same size; then the header is encoded once, and each packet takes a third of the time.
    beginnings = {size: HEADER.pack(REQUEST, kind, len(head) + size) + head for size in set(map(len, workloads))}
    if max(beginnings) < _COPIED:
        return (b"".join([beginnings[len(workload)] + workload for workload in workloads]),)
    return [piece for workload in workloads for piece in (beginnings[len(workload)], workload)]


def split(kind: PacketType, body: bytes) -> list[bytes]:
    """
    Split the body of a packet into its arguments, in the order of :data:`PACKETS`.

    The body of a packet without arguments is ignored, as job servers do.

    Raises:
        RemoteProtocolError: If there are too few arguments.
    """
    names = PACKETS[kind].arguments
    # The last argument extends to the end of the packet, so only len(names) - 1 NULs separate: it may contain NULs.
    arguments = body.split(b"\0", len(names) - 1) if names else []
    if len(arguments) != len(names):
        # Without the arguments: one may be a workload, and the message is logged.
        raise RemoteProtocolError(
            f"{kind.name} needs {len(names)} arguments ({', '.join(names)}), got {len(arguments)} in {len(body)} bytes"
        )
    return arguments


def max_body(kind: PacketType) -> int:
    """Return the longest body that :data:`LIMITS` allow a packet whose arguments all have a limit."""
    names = PACKETS[kind].arguments
    return sum(LIMITS[name] for name in names) + len(names) - 1


def check_limits(kind: PacketType, arguments: Sequence[bytes]) -> None:
    """
    Check the arguments of a packet from a job server.

    Raises:
        RemoteProtocolError: If one of them is over its limit in :data:`LIMITS`.
    """
    for name, argument in zip(PACKETS[kind].arguments, arguments, strict=True):
        limit = LIMITS.get(name)
        if limit is not None and len(argument) > limit:
            raise RemoteProtocolError(f"{kind.name} has a {name} of {len(argument)} bytes; the limit is {limit}")


def describe(kind: int, body: bytes) -> str:
    """Describe a packet for the log: its name and arguments, but only the length of workloads and data."""
    skipped = kind <= OVERSIZE
    kind = OVERSIZE - kind if skipped else kind
    try:
        kind = PacketType(kind)
        arguments = split(kind, body)
    except (ValueError, RemoteProtocolError):
        name = kind.name if isinstance(kind, PacketType) else f"type {kind}"
        return f"{name} (malformed or unknown) [{len(body)} bytes]"
    if skipped:
        *arguments, size = arguments
    parts = [kind.name]
    for name, argument in zip(PACKETS[kind].arguments, arguments, strict=False):
        parts.append(f"[{len(argument)} bytes]" if name in _ELIDED else printable(argument))
    if skipped:
        parts.append(f"[{printable(size)} bytes, skipped]")
    return " ".join(parts)
