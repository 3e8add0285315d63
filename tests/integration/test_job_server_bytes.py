"""gearmand and our job server answer the same bytes with the same bytes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from geartrain import JobServer
from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.gearmand import Gearmand
from tests.support.wire import TIMEOUT, packet

P = PacketType
H = b"H:" + socket.gethostname().encode() + b":"
FUTURE = b"%d" % (time.time() + 10_000)

# What to send, by connection name, in order; each step waits until the previous one was processed.
Script = list[tuple[str, bytes]]

SUBMITS = [
    P.SUBMIT_JOB,
    P.SUBMIT_JOB_BG,
    P.SUBMIT_JOB_HIGH,
    P.SUBMIT_JOB_HIGH_BG,
    P.SUBMIT_JOB_LOW,
    P.SUBMIT_JOB_LOW_BG,
]


def one(*data: bytes) -> Script:
    """A single peer."""
    return [("peer", b"".join(data))]


def job(
    *worker: bytes,
    clients: int = 1,
    kind: PacketType = P.SUBMIT_JOB,
    option: bytes = b"",
    grab: PacketType = P.GRAB_JOB,
) -> Script:
    """A job ``H:...:1`` with waiting clients, and the packets that its worker sends."""
    start = [(f"client {n}", option + packet(kind, b"f", b"key", b"work\0load")) for n in range(clients)]
    return [*start, ("worker", packet(P.CAN_DO, b"f") + packet(grab)), *(("worker", data) for data in worker)]


def queued(*more: tuple[str, bytes]) -> Script:
    """Jobs of all kinds, then ``more``."""
    submits = b"".join(packet(kind, b"f", b"u%d" % kind, b"w%d" % kind) for kind in SUBMITS)
    epoch = packet(P.SUBMIT_JOB_EPOCH, b"f", b"later", FUTURE, b"w")
    return [("client", submits), ("client", epoch), *more]


HANDLE = H + b"1"
ENDS = {
    "complete": packet(P.WORK_COMPLETE, HANDLE, b"re\0sult"),
    "complete with nothing": packet(P.WORK_COMPLETE, HANDLE, b""),
    "fail": packet(P.WORK_FAIL, HANDLE),
    "exception": packet(P.WORK_EXCEPTION, HANDLE, b"oh\0no"),
}
EXCEPTIONS = packet(P.OPTION_REQ, b"exceptions")
ABILITY = packet(P.CAN_DO, b"f")

SCRIPTS: dict[str, Script] = {
    "echo": one(packet(P.ECHO_REQ, b""), packet(P.ECHO_REQ, b"a\0b\0")),
    "options": one(*(packet(P.OPTION_REQ, o) for o in (b"exceptions", b"EXCEPTIONS\0", b"exception", b"", b"x" * 63))),
    "wrong magic": one(packet(P.ECHO_REQ, b"x", magic=RESPONSE), packet(P.ECHO_REQ, b"y")),
    "bytes after the arguments": one(
        packet(P.PRE_SLEEP, b"junk"), packet(P.GRAB_JOB, b"junk"), packet(P.RESET_ABILITIES, b"junk")
    ),
    "unique too long": one(*(packet(k, b"f", b"u" * 65, b"") for k in SUBMITS)),
    "unique of 63 bytes": one(packet(P.SUBMIT_JOB, b"f", b"u" * 63, b""), packet(P.GET_STATUS_UNIQUE, b"u" * 63)),
    "reducer too long": one(packet(P.SUBMIT_REDUCE_JOB, b"f", b"u", b"r" * 65, b"", b"w")),
    "function of 8000 bytes": one(packet(P.SUBMIT_JOB, b"f" * 8000, b"", b"w"), b"status\r\n"),
    "function without a name": one(
        packet(P.SUBMIT_JOB, b"", b"", b"w"), packet(P.CAN_DO, b""), packet(P.GRAB_JOB), b"status\r\n"
    ),
    "empty unique never merges": one(packet(P.SUBMIT_JOB, b"f", b"", b"w") * 3),
    "a dash merges equal workloads": one(*(packet(P.SUBMIT_JOB, b"f", b"-", w) for w in (b"a", b"b", b"a", b"", b""))),
    "a dash is no unique to query": one(packet(P.SUBMIT_JOB, b"f", b"-", b"a"), packet(P.GET_STATUS_UNIQUE, b"-")),
    "a dash is what the worker sees": one(packet(P.SUBMIT_JOB, b"f", b"-", b"a"), ABILITY, packet(P.GRAB_JOB_UNIQ)),
    "uniques merge per function": one(*(packet(P.SUBMIT_JOB, f, b"u", b"a") for f in (b"f", b"g", b"f"))),
    "status of an unknown handle": one(
        packet(P.GET_STATUS, b"H:x:1"), packet(P.GET_STATUS, b"H:x:1\0more"), packet(P.GET_STATUS, b"")
    ),
    "status of an unknown unique": one(packet(P.GET_STATUS_UNIQUE, b"u"), packet(P.GET_STATUS_UNIQUE, b"u\0more")),
    "the newest of equal uniques answers": [
        *one(
            packet(P.SUBMIT_JOB, b"f", b"u", b""),
            packet(P.SUBMIT_JOB, b"g", b"u", b"") * 2,
            packet(P.GET_STATUS_UNIQUE, b"u"),
        )
    ],
    "grab without abilities": one(packet(P.GRAB_JOB), packet(P.GRAB_JOB_UNIQ), packet(P.GRAB_JOB_ALL)),
    "a handle of no running job": one(
        *(
            packet(k, h, b"x")
            for k in (P.WORK_COMPLETE, P.WORK_DATA, P.WORK_WARNING, P.WORK_EXCEPTION)
            for h in (b"H:x:1", b"h" * 70)
        ),
        packet(P.WORK_STATUS, b"H:x:1", b"1", b"2"),
        *(packet(P.WORK_FAIL, h) for h in (b"H:x:1", b"h" * 63, b"h" * 64)),
    ),
    "reducers": one(
        packet(P.SUBMIT_REDUCE_JOB, b"f", b"u", b"r", b"ignored", b"w"),
        packet(P.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"v", b"", b"", b"w"),
        packet(P.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"w", b"r", b"", b"w") * 2,
        ABILITY + packet(P.GRAB_JOB_ALL) * 2 + packet(P.GRAB_JOB_UNIQ),
    ),
    "the last function registered goes first": one(
        *(packet(P.SUBMIT_JOB_BG, f, b"", f + n) for n in (b"1", b"2") for f in (b"f", b"g", b"h")),
        packet(P.SUBMIT_JOB_HIGH_BG, b"f", b"", b"high"),
        *(packet(P.CAN_DO, f) for f in (b"g", b"h", b"f")),
        packet(P.GRAB_JOB) * 8,
    ),
    "priorities": [*queued()[:1], ("worker", ABILITY + packet(P.GRAB_JOB_UNIQ) * 7)],
    # Sent together, this makes gearmand read freed memory: its JOB_ASSIGN still points into the ended job.
    "one connection in both roles": [
        ("peer", data)
        for data in (packet(P.SUBMIT_JOB, b"f", b"", b"w"), ABILITY + packet(P.GRAB_JOB), ENDS["complete"])
    ],
    "sleep with a job": queued(("worker", ABILITY), ("worker", packet(P.PRE_SLEEP) * 3)),
    "sleep without a job": [
        ("worker", ABILITY + packet(P.PRE_SLEEP)),
        ("client", packet(P.SUBMIT_JOB, b"f", b"", b"w") * 3),
        ("worker", packet(P.GRAB_JOB) * 4 + packet(P.PRE_SLEEP)),
        ("client", packet(P.SUBMIT_JOB, b"f", b"", b"w") * 2),
        ("worker", packet(P.GRAB_JOB)),
        ("client", packet(P.SUBMIT_JOB, b"f", b"", b"w")),
    ],
    "all sleeping workers are woken": [
        *((f"worker {n}", ABILITY + packet(P.PRE_SLEEP)) for n in range(3)),
        ("awake", ABILITY),
        ("other", packet(P.CAN_DO, b"g") + packet(P.PRE_SLEEP)),
        ("client", packet(P.SUBMIT_JOB, b"f", b"", b"w")),
    ],
    "a delayed job wakes workers immediately": [
        ("worker", ABILITY + packet(P.PRE_SLEEP)),
        ("client", packet(P.SUBMIT_JOB_EPOCH, b"f", b"u", FUTURE, b"w")),
        ("worker", packet(P.GRAB_JOB)),
    ],
    "invalid times": one(
        *(packet(P.SUBMIT_JOB_EPOCH, b"f", b"", t, b"w" + t) for t in (b"", b"text", b"-5", b"1.5", b"99")),
        ABILITY + packet(P.GRAB_JOB) * 6,
    ),
    "a delayed job in the listings": one(
        packet(P.SUBMIT_JOB_EPOCH, b"f", b"u", FUTURE, b"w"),
        b"status\r\nprioritystatus\r\nshow jobs\r\nshow unique jobs\r\n",
        packet(P.GET_STATUS, HANDLE),
        packet(P.GET_STATUS_UNIQUE, b"u"),
    ),
    "lost jobs go to the end, the last one first": [
        ("client", b"".join(packet(P.SUBMIT_JOB, b"f", b"", b"%d" % n) for n in range(5))),
        ("worker", ABILITY + packet(P.GRAB_JOB) * 3),
        ("worker", packet(P.CANT_DO, b"f")),
        ("other", ABILITY + packet(P.GRAB_JOB) * 6),
        ("worker", ENDS["complete"]),
    ],
    "abilities are reset": [
        *job(
            packet(P.RESET_ABILITIES), packet(P.WORK_DATA, HANDLE, b"late"), packet(P.WORK_STATUS, HANDLE, b"1", b"2")
        ),
        ("client 0", b"status\r\nshow jobs\r\n" + packet(P.GET_STATUS, HANDLE)),
    ],
    "a lost job loses its progress": [
        *job(packet(P.WORK_STATUS, HANDLE, b"1", b"2")),
        ("client 0", packet(P.GET_STATUS, HANDLE)),
        ("worker", packet(P.CANT_DO, b"f")),
        ("client 0", packet(P.GET_STATUS, HANDLE)),
    ],
    "maxqueue": [
        *one(b"create function f\r\nmaxqueue f 2\r\n", packet(P.SUBMIT_JOB, b"f", b"u", b"") * 3),
        *one(
            *(packet(kind, b"f", b"", b"w") for kind in (*SUBMITS, *SUBMITS)),
            packet(P.SUBMIT_JOB_EPOCH, b"f", b"", FUTURE, b""),
        ),
        *one(packet(P.SUBMIT_JOB, b"f", b"u", b""), b"maxqueue f 0\r\n", packet(P.SUBMIT_JOB, b"f", b"", b"w") * 3),
    ],
    "maxqueue by priority": one(
        b"create function f\r\nmaxqueue f 3 2 1\r\n",
        *(packet(kind, b"f", b"", b"w") for kind in (*SUBMITS[::-1], *SUBMITS[::-1])),
    ),
    "maxqueue with invalid arguments": [
        *one(
            b"create function f\r\nmaxqueue f -1\r\nmaxqueue f x\r\nmaxqueue nobody 1\r\nmaxqueue f 1\r\nmaxqueue f\r\n"
        ),
        *one(packet(P.SUBMIT_JOB, b"f", b"", b"w") * 3),
    ],
    "jobs in the listings": queued(
        ("worker", ABILITY + packet(P.GRAB_JOB)),
        ("client", b"status\r\nprioritystatus\r\n" + packet(P.GET_STATUS, H + b"3")),
    ),
    "a client id": [("peer", packet(P.SET_CLIENT_ID, b"I am\0me")), ("peer", packet(P.SET_CLIENT_ID, b"x" * 200))],
    "functions are created and dropped": one(
        *(
            line + b"\r\n"
            for line in (b"create function f", b"status", b"drop function f", b"drop function f", b"status")
        ),
        ABILITY,
        b"drop function f\r\n",
        packet(P.CANT_DO, b"f"),
        b"drop function f\r\nstatus\r\n",
    ),
    "a queued job is cancelled": [
        ("client", packet(P.SUBMIT_JOB, b"f", b"u", b"w") * 2),
        ("admin", b"cancel job " + HANDLE + b"\r\ncancel job H:x:9\r\n"),
        ("worker", ABILITY + packet(P.GRAB_JOB)),
        ("admin", b"cancel job " + HANDLE + b"\r\nshow jobs\r\nstatus\r\n"),
    ],
    "text and packets on one connection": one(
        b"version x\r\n"[:0], b"status\n", packet(P.ECHO_REQ, b"x"), b"show jobs\r\n"
    ),
    "status numbers": [
        *(
            step
            for pair in [
                (b"50.5", b"100"),
                (b"-1", b"abc"),
                (b"", b""),
                (b"4294967296", b"  7"),
                (b"99999999999999", b"+1x"),
            ]
            for step in [("worker", packet(P.WORK_STATUS, HANDLE, *pair)), ("client 0", packet(P.GET_STATUS, HANDLE))]
        )
    ],
    **{f"{name} of a job": job(end, end) for name, end in ENDS.items()},
    **{f"{name} with option": job(end, option=EXCEPTIONS) for name, end in ENDS.items()},
    **{f"{name} to three clients": job(end, clients=3) for name, end in ENDS.items()},
    **{f"{name} in the background": job(end, kind=P.SUBMIT_JOB_BG) for name, end in ENDS.items()},
    **{
        f"{kind.name} sent to a server": one(packet(kind, b"x", b"y", b"z", b"", b"", b""))
        for kind in (P.JOB_CREATED, P.NOOP, P.NO_JOB)
    },
    **{f"grabbed by {grab.name}": job(grab=grab) for grab in (P.GRAB_JOB, P.GRAB_JOB_UNIQ, P.GRAB_JOB_ALL)},
    "type 5": one(packet(5)),
    "all yours": one(packet(P.ALL_YOURS)),
    "scheduled": one(packet(P.SUBMIT_JOB_SCHED, b"f", b"u", b"1", b"2", b"3", b"4", b"5", b"w")),
    "data, warnings and numbers": job(
        packet(P.WORK_DATA, HANDLE, b"a\0b"),
        packet(P.WORK_DATA, HANDLE, b""),
        packet(P.WORK_WARNING, HANDLE, b"w"),
        packet(P.WORK_STATUS, HANDLE, b"1.5", b"many"),
        clients=2,
    ),
    "one client twice": [
        ("client", packet(P.SUBMIT_JOB, b"f", b"u", b"1") * 2),
        ("worker", ABILITY + packet(P.GRAB_JOB_UNIQ) + packet(P.WORK_DATA, HANDLE, b"d")),
        ("client", packet(P.SUBMIT_JOB, b"f", b"u", b"2") + packet(P.SUBMIT_JOB_BG, b"f", b"u", b"3")),
        ("client", packet(P.GET_STATUS_UNIQUE, b"u")),
        ("worker", packet(P.WORK_DATA, HANDLE, b"e") + ENDS["complete"]),
        ("client", packet(P.SUBMIT_JOB, b"f", b"u", b"4")),
    ],
    "the option after the submission": [
        *job(),
        ("client 0", EXCEPTIONS),
        ("worker", ENDS["exception"]),
    ],
}
SCRIPTS["status numbers"] = [*job(), *SCRIPTS["status numbers"]]

LINES = [
    *(b"", b" status", b"status x", b"STATUS", b"status ", b"\tstatus", b"foo", b"Foo bar", b"foo\0bar", b"a b c d e"),
    *(b"show", b"show x", b"show jobs x", b"show unique", b"show unique x", b"show unique jobs x", b"SHOW JOBS"),
    *(
        b"cancel",
        b"CANCEL",
        b"cancel job",
        b"cancel x",
        b"cancel x y",
        b"cancel job x",
        b"cancel job x y",
        b"Cancel Job x",
    ),
    *(b"maxqueue", b"MAXQUEUE", b"maxqueue f", b"maxqueue f 1 2", b"maxqueue f 1 2 3", b"maxqueue  f  1"),
    *(
        b"create",
        b"Create function",
        b"create x y",
        b"create function f g",
        b"create function f ",
        b"CREATE FUNCTION f",
    ),
    *(b"drop", b"DROP function", b"drop x y", b"drop function f g", b"drop function f"),
    *(b"verbose", b"verbose x", b"prioritystatus", b"shutdown", b"show\tjobs"),
]
SCRIPTS.update((f"line {line!r}", one(line + b"\r\n")) for line in LINES)

# The server closes the connection without a reply, whatever was sent before.
FATAL = {
    "no magic": b"\0ABC" + bytes(8),
    "type 0": packet(0),
    "type 43": packet(43),
    "the highest type": packet(0x7FFFFFFF),
    "six words": b"a b c d e f\r\n",
    "a line without an end": b"x" * 8200,
}


def play(port: int, script: Script) -> dict[str, bytes]:
    """Run a script, and return everything that each connection has received."""
    connections: dict[str, tuple[socket.socket, bytearray]] = {}
    try:
        for name, data in script:
            if name not in connections:
                connections[name] = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT), bytearray()
            until_echo(*connections[name], data)
        for connection in connections.values():
            until_echo(*connection, b"")
    finally:
        for sock, _ in connections.values():
            sock.close()
    return {name: bytes(received) for name, (_, received) in connections.items()}


def until_echo(sock: socket.socket, received: bytearray, data: bytes) -> None:
    """Send bytes and an echo request, and append everything received until the echo."""
    sock.sendall(data + packet(P.ECHO_REQ, b"processed"))
    end = packet(P.ECHO_RES, b"processed", magic=RESPONSE)
    start = len(received)
    while received.find(end, start) < 0:
        more = sock.recv(65536)
        assert more, f"the connection was closed after {bytes(received)!r}"
        received += more


@contextmanager
def own_server() -> Iterator[int]:
    """Run our job server in a thread, where its coverage is measured; yield its port."""
    port: Future[int] = Future()
    stop: Future[None] = Future()

    async def run() -> None:
        async with JobServer(port=0) as server:
            port.set_result(int(server.address.rpartition(":")[2]))
            await asyncio.wrap_future(stop)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(asyncio.run, run())
        yield port.result()
        stop.set_result(None)
        running.result()


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_send_the_same_replies(name: str, gearmand: Gearmand) -> None:
    with own_server() as port:
        assert play(port, SCRIPTS[name]) == play(gearmand.port, SCRIPTS[name])


@pytest.mark.parametrize("name", FATAL)
def test_both_close_the_connection(name: str, gearmand: Gearmand) -> None:
    with own_server() as own_port:
        for port in (own_port, gearmand.port):
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock:
                sock.sendall(FATAL[name])
                assert sock.recv(1) == b""
