"""The seeds of each target: real packets, lines and conversations. The fuzzer mutates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from geartrain.protocol.packets import PACKETS, REQUEST, RESPONSE, PacketType
from geartrain.protocol.results import OVERSIZE_RESULTS
from geartrain.protocol.server.peer import OVERSIZE_REQUESTS
from tests.fuzz.targets import MAX_SIZE, script
from tests.support.wire import packet

P = PacketType

ARGUMENTS: Final[Mapping[str, bytes]] = {
    "function": b"f",
    "unique": b"u",
    "handle": b"H:test:1",
    "numerator": b"1",
    "denominator": b"2",
    "known": b"1",
    "running": b"0",
    "waiting_clients": b"1",
    "epoch": b"1000010",
    "timeout_ms": b"3000",
    "option": b"exceptions",
    "code": b"QUEUE_ERROR",
    "text": b"Job queue is full",
}

LINES: Final = (
    *(b"status\r\n", b"prioritystatus\n", b"workers\r\n", b"show jobs\r\n", b"show unique jobs\n", b"version\n"),
    *(b"getpid\r\n", b"verbose\r\n", b"maxqueue f 1\r\n", b"maxqueue f 3 2 1\r\n", b"create function h\r\n"),
    *(b"drop function g\r\n", b"drop function f\r\n", b"cancel job H:test:1\r\n", b"cancel job\r\n", b"show x\r\n"),
    *(b"maxqueue f 1 2 3 4\r\n", b"shutdown\r\n", b" status\r\n", b"\r\n", b"status\0\r\n"),
)

ANSWERS: Final = (  # the first byte of each chooses the two commands that are sent
    b"\x00e\xff\xe9\t0\t0\t0\na\tb\t5\t1\t2\n.\t7\t0\t0\n.\n.\n",
    b"\x0ba\tb\t1\t2\t3\t4\n.\n.\n",
    b"\x1635 127.0.0.1  : a\n36 127.0.0.1 - :\n37 ::1 my id : a b::c :\n.\n.\n",
    b"\x21H:lap:1\t0\t1\t0\nH:lap:2\t3\t0\t1\n.\n.\n",
    b"\x2c\nu\n-\n\xff\n.\n.\n",
    b"\x37OK 1.1.20+ds\nv1.130.1\n",
    b"\x42OK 4711\nOK 1\n",
    b"\x4dOK ERROR\nOK DEBUG\n",
    b"\x58OK\r\nERR UNKNOWN_COMMAND Unknown+server+commandmaxqueue\r\n",
    b"\x63OK\nBYE\n",
    b"\x00ERR UNKNOWN_COMMAND Unknown+server+commandstatus\r\n.\n",
)


def real(kind: PacketType, magic: int, **values: bytes) -> bytes:
    """Write a packet of this type with likely arguments."""
    arguments = [values.get(name, ARGUMENTS.get(name, b"da\0ta")) for name in PACKETS[kind].arguments]
    return packet(kind, *arguments, magic=magic)


REQUESTS: Final = [real(kind, REQUEST) for kind, spec in PACKETS.items() if spec.to_server]
RESPONSES: Final = [real(kind, RESPONSE) for kind, spec in PACKETS.items() if spec.from_server]
TOO_LONG: Final = packet(P.ECHO_REQ)[:8] + b"\xff\xff\xff\xff"


def oversize(kind: PacketType, magic: int, size: int = MAX_SIZE + 1) -> bytes:
    """Write a packet of this type whose last argument has ``size`` bytes, by default one more than the limit."""
    return real(kind, magic, **{PACKETS[kind].arguments[-1]: b"x" * size})


LARGE_REQUESTS: Final = [
    *(oversize(P(kind), REQUEST) for kind in sorted(OVERSIZE_REQUESTS)),
    *(oversize(kind, REQUEST, MAX_SIZE) for kind in (P.SUBMIT_JOB, P.WORK_DATA)),
]
LARGE_RESULTS: Final = [
    *(oversize(P(kind), RESPONSE) for kind in sorted(OVERSIZE_RESULTS)),
    *(oversize(kind, RESPONSE, MAX_SIZE) for kind in (P.WORK_DATA, P.WORK_COMPLETE)),
]
LARGE_ASSIGNS: Final = [
    oversize(kind, RESPONSE, size) for kind in (P.JOB_ASSIGN, P.JOB_ASSIGN_UNIQ) for size in (MAX_SIZE, MAX_SIZE + 1)
]
# So long that the arguments before the last arrive long before the end.
LONGEST: Final = [oversize(P.SUBMIT_JOB, REQUEST, 60 * MAX_SIZE), oversize(P.WORK_DATA, RESPONSE, 60 * MAX_SIZE)]


def response(kind: PacketType, **values: bytes) -> bytes:
    return real(kind, RESPONSE, **values)


# The steps of the client's script: 0 receives bytes, 4 submits, 12 with a unique, 28 in the background, 5 13 21 29 send
# queries, 6 forgets a job, 7 probes stale jobs.
CREATED: Final = response(P.JOB_CREATED)
CLIENT: Final = (
    script((4, b"w"), (0, CREATED), *((0, packet) for packet in RESPONSES)),
    script((4, b"w"), (0, CREATED + response(P.WORK_DATA) + response(P.WORK_STATUS) + response(P.WORK_COMPLETE))),
    script((4, b"w"), (4, b""), (0, response(P.ERROR) + CREATED), (0, response(P.WORK_FAIL) + b"\0")),
    script((12, b"w"), (12, b"w"), (0, CREATED * 2), (6, b""), (0, response(P.WORK_COMPLETE) * 2)),
    script((12, b"w"), (0, CREATED), (12, b"w"), (0, CREATED + response(P.WORK_WARNING) * 2), (0, b"\0RESx")),
    script((28, b"w"), (0, CREATED), (6, b""), (0, response(P.WORK_EXCEPTION))),
    script((5, b""), (13, b""), (0, response(P.STATUS_RES, handle=b"H:1") + response(P.STATUS_RES_UNIQUE))),
    script((21, b""), (29, b""), (0, response(P.ECHO_RES, data=b"echo") + response(P.OPTION_RES))),
    script((4, b"w"), (0, CREATED), (7, b""), (7, b""), (7, b""), (0, response(P.STATUS_RES, known=b"0"))),
    *(script((4, b"w"), (4, b"w"), (0, CREATED + large + CREATED)) for large in LARGE_RESULTS),
    *(script((12, b"w"), (12, b"w"), (0, CREATED * 2), (0, large * 2), (6, b"")) for large in LARGE_RESULTS),
)

# The steps of the worker's script: 0 receives bytes, 4 grabs, 5 sleeps, 6 sends an echo request, 7 ends a job with
# WORK_COMPLETE, 15 with WORK_EXCEPTION.
ASSIGN: Final = response(P.JOB_ASSIGN_UNIQ)
WORKER: Final = (
    script((4, b""), (0, response(P.NO_JOB)), (5, b""), (0, response(P.NOOP)), (4, b""), (0, ASSIGN), (7, b"")),
    script((4, b""), (0, response(P.ERROR)), (4, b""), (0, response(P.JOB_ASSIGN)), (15, b"")),
    script((4, b""), (0, ASSIGN), (4, b""), (4, b""), (0, ASSIGN * 2), (7, b""), (7, b""), (0, response(P.ERROR))),
    script((6, b""), (0, response(P.ECHO_RES)), (0, packet(43, b"new", magic=RESPONSE)), (0, b"garbage")),
    *(script((4, b""), (4, b""), (0, large + ASSIGN), (7, b"")) for large in LARGE_ASSIGNS),
)

# The steps of the broker's script: 0 8 16 receive bytes from one of three peers, 6 14 22 disconnect one, 7 + 8 n lets n
# seconds pass.
CAN_DO, GRAB = packet(P.CAN_DO, b"f"), packet(P.GRAB_JOB_UNIQ)
SUBMIT: Final = packet(P.SUBMIT_JOB, b"f", b"u", b"workload")
BROKER: Final = (
    *(script((0, SUBMIT), (8, CAN_DO + GRAB), (8, packet)) for packet in REQUESTS),
    *(script((0, SUBMIT), (8, CAN_DO + GRAB), (16, line)) for line in LINES),
    script((8, CAN_DO + GRAB + packet(P.PRE_SLEEP)), (0, SUBMIT), (8, GRAB), (8, real(P.WORK_COMPLETE, REQUEST))),
    script((0, SUBMIT), (16, SUBMIT), (6, b""), (8, CAN_DO + GRAB), (14, b""), (0, CAN_DO + GRAB)),
    script((8, real(P.CAN_DO_TIMEOUT, REQUEST)), (0, SUBMIT), (8, GRAB), (7 + 8 * 5, b""), (8, GRAB)),
    script((0, real(P.SUBMIT_JOB_EPOCH, REQUEST)), (8, CAN_DO + packet(P.PRE_SLEEP)), (7 + 8 * 20, b""), (8, GRAB)),
    script((0, packet(P.OPTION_REQ, b"exceptions") + SUBMIT), (8, CAN_DO + GRAB), (8, real(P.WORK_EXCEPTION, REQUEST))),
    script((0, packet(P.ECHO_REQ, bytes(150)) * 20), (8, TOO_LONG), (16, packet(0x7FFFFFFF))),
    *(script((0, SUBMIT), (8, CAN_DO + GRAB), (8, large + SUBMIT), (16, SUBMIT)) for large in LARGE_REQUESTS),
)

_ALL_RESPONSES: Final = b"".join(RESPONSES)
_WAKE: Final = response(P.ECHO_RES) + ASSIGN + response(P.NO_JOB) + response(P.JOB_ASSIGN)
_LARGE: Final = [b"\x63" + one + REQUESTS[0] for one in (*LARGE_REQUESTS, LONGEST[0])]
_LARGE_RESULTS: Final = [b"\x63" + one + RESPONSES[0] for one in (*LARGE_RESULTS, LONGEST[1])]

SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "requests": [*(b"\x04" + one for one in REQUESTS), b"\x63" + b"".join(REQUESTS), b"\x00" + TOO_LONG, *_LARGE],
    "responses": [*(b"\x04" + one for one in RESPONSES), b"\x63" + _ALL_RESPONSES, *_LARGE_RESULTS],
    "requests_and_lines": [
        *(b"\x04" + line + one for line, one in zip(LINES, REQUESTS, strict=False)),
        b"\x63" + b"".join(LINES) + RESPONSES[0] + TOO_LONG,
        *_LARGE,
    ],
    "client": CLIENT,
    "worker": WORKER,
    "worker_in_pieces": [
        *(_WAKE, ASSIGN * 3, response(P.ERROR) * 2 + ASSIGN, ASSIGN * 4, response(P.NOOP) + b"x"),
        *(large + ASSIGN for large in LARGE_ASSIGNS),
    ],
    "answers": ANSWERS,
    "commands": [*LINES, b"".join(LINES)],
    "broker": BROKER,
}
