"""``show jobs`` of gearmand and of our job server mark the same jobs as ignored and as persisted."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import NamedTuple

import pytest

from geartrain.protocol.packets import PacketType
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer, JobServerHost
from tests.support.wire import Wire, packet

P = PacketType
HANDLE = b"H:" + socket.gethostname().encode() + b":1"
NOW = int(time.time())


class ShowJobs(NamedTuple):
    """The columns of ``show jobs`` for the first job: retries, ignored, persisted; empty if it is not listed."""

    columns: str


class Disconnect(NamedTuple):
    """A peer closes its connection."""

    peer: str


# A peer's name and what it sends; the next step follows when the server has processed it.
Step = tuple[str, bytes] | ShowJobs | Disconnect

FOREGROUND = packet(P.SUBMIT_JOB, b"f", b"unique", b"workload")
BACKGROUND = packet(P.SUBMIT_JOB_BG, b"f", b"unique", b"workload")
RUN: Step = ("worker", packet(P.CAN_DO, b"f") + packet(P.GRAB_JOB))
END: Step = ("worker", packet(P.WORK_COMPLETE, HANDLE, b"result"))
CANCEL: Step = ("admin", b"cancel job " + HANDLE + b"\r\n")
PLAIN, IGNORED, PERSISTED = ShowJobs("0 0 0"), ShowJobs("0 1 0"), ShowJobs("0 0 1")


def epoch(seconds: int) -> bytes:
    return packet(P.SUBMIT_JOB_EPOCH, b"f", b"unique", b"%d" % (NOW + seconds), b"workload")


SITUATIONS: dict[str, list[Step]] = {
    "foreground, queued": [("a", FOREGROUND), PLAIN],
    "foreground, running": [("a", FOREGROUND), RUN, PLAIN],
    "background, queued": [("a", BACKGROUND), PERSISTED],
    "background, running": [("a", BACKGROUND), RUN, PERSISTED],
    "background, its submitter leaves": [("a", BACKGROUND), RUN, Disconnect("a"), PERSISTED],
    "reducer in the background": [("a", packet(P.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"u", b"r", b"", b"")), PERSISTED],
    "the only client leaves": [("a", FOREGROUND), RUN, Disconnect("a"), IGNORED],
    "the only client, which waits twice, leaves": [("a", FOREGROUND * 2), RUN, Disconnect("a"), IGNORED],
    "without a unique": [("a", packet(P.SUBMIT_JOB, b"f", b"", b"")), RUN, Disconnect("a"), IGNORED],
    "one of two clients leaves, then the other": [
        *(("a", FOREGROUND), ("b", FOREGROUND), RUN),
        *(Disconnect("a"), PLAIN, Disconnect("b"), IGNORED),
    ],
    "merged by workload": [
        *(("a", packet(P.SUBMIT_JOB, b"f", b"-", b"w")), RUN, ("b", packet(P.SUBMIT_JOB, b"f", b"-", b"w"))),
        *(Disconnect("a"), PLAIN, Disconnect("b"), IGNORED),
    ],
    "cancelled, foreground": [("a", FOREGROUND), RUN, CANCEL, IGNORED, Disconnect("a"), IGNORED, END, ShowJobs("")],
    "cancelled, background": [("a", BACKGROUND), RUN, CANCEL, IGNORED, END, ShowJobs("")],
    "cancelled, status": [("a", FOREGROUND), RUN, CANCEL, ("b", packet(P.GET_STATUS, HANDLE)), IGNORED],
    "abandoned, and joined by a client": [
        *(("a", FOREGROUND), RUN, Disconnect("a"), IGNORED),
        *(("b", FOREGROUND), IGNORED, ("b", packet(P.GET_STATUS_UNIQUE, b"unique")), END, ("b", b""), ShowJobs("")),
    ],
    "abandoned, joined, and abandoned again": [
        *(("a", FOREGROUND), RUN, Disconnect("a"), IGNORED),
        *(("b", FOREGROUND), IGNORED, Disconnect("b"), IGNORED),
    ],
    "abandoned, and joined in the background": [
        *(("a", FOREGROUND), RUN, Disconnect("a"), IGNORED),
        *(("b", BACKGROUND), IGNORED),
    ],
    "background, joined by a client that leaves, running": [
        *(("a", BACKGROUND), RUN, ("b", FOREGROUND), PERSISTED, Disconnect("b"), IGNORED),
    ],
    "background, joined by a client that leaves, queued": [
        *(("a", BACKGROUND), ("b", FOREGROUND), PERSISTED, Disconnect("b"), IGNORED),
    ],
    "foreground, joined in the background, the client leaves, running": [
        *(("a", FOREGROUND), RUN, ("b", BACKGROUND), PLAIN, Disconnect("a"), IGNORED),
    ],
    "foreground, joined in the background, the client leaves, queued": [
        *(("a", FOREGROUND), ("b", BACKGROUND), PLAIN, Disconnect("a"), IGNORED),
    ],
    "foreground, joined in the background, the second leaves": [
        *(("a", FOREGROUND), RUN, ("b", BACKGROUND), PLAIN, Disconnect("b"), PLAIN),
    ],
    "both by one peer, which leaves": [("a", FOREGROUND + BACKGROUND), RUN, Disconnect("a"), IGNORED],
    "the worker is lost, then the client": [
        *(("a", FOREGROUND), RUN, Disconnect("worker"), ShowJobs("1 0 0"), RUN, Disconnect("a"), ShowJobs("1 1 0")),
    ],
    "delayed, twice": [("a", epoch(1000)), PERSISTED, ("b", epoch(2000)), PERSISTED],
    "delayed, joined by a client that leaves": [
        *(("a", epoch(1000)), ("b", FOREGROUND), PERSISTED, Disconnect("b"), IGNORED),
    ],
    "delayed, running, and submitted once more": [
        *(("a", epoch(-5)), RUN, PERSISTED, ("a", epoch(1000)), PERSISTED, END, ShowJobs("")),
    ],
    "joined with another priority": [
        *((f"client {n}", packet(P.SUBMIT_JOB, b"f", b"%d" % n, b"")) for n in range(3)),
        ("high", packet(P.SUBMIT_JOB_HIGH, b"f", b"1", b"")),
        ("low", packet(P.SUBMIT_JOB_LOW, b"f", b"0", b"")),
        ("admin", b"prioritystatus\r\n"),
        ("worker", packet(P.CAN_DO, b"f") + packet(P.GRAB_JOB_UNIQ) * 3),
        PLAIN,
    ],
}


def play(server: AnyJobServer, steps: list[Step]) -> dict[str, bytes]:
    """Do all steps, and return what each connected peer has received."""
    with contextlib.ExitStack() as stack:
        observer = stack.enter_context(Wire(server.port))
        peers: dict[str, Wire] = {}
        received: dict[str, bytes] = {}
        for step in steps:
            if isinstance(step, ShowJobs):
                wait_until(lambda: columns(observer) == step.columns)  # noqa: B023
            elif isinstance(step, Disconnect):
                peers.pop(step.peer).close()
                del received[step.peer]
                wait_until(lambda: len(observer.ask(b"workers")) == len(peers) + 1)
            else:
                name, data = step
                if name not in peers:
                    peers[name] = stack.enter_context(Wire(server.port))
                received[name] = received.get(name, b"") + exchange(peers[name], data)
        return received


def exchange(peer: Wire, data: bytes) -> bytes:
    """Send bytes, and return everything received until they were processed."""
    peer.socket.sendall(data + packet(P.ECHO_REQ, b"processed"))
    end = packet(P.ECHO_RES, b"processed", magic=0x00524553)
    received = b""
    while not received.endswith(end):
        more = peer.socket.recv(65536)
        assert more, "the connection was closed"
        received += more
    return received


def columns(observer: Wire) -> str:
    for line in observer.ask(b"show jobs"):
        handle, *numbers = line.split()
        if handle == HANDLE:
            return b" ".join(numbers).decode()
    return ""


@pytest.mark.parametrize("situation", SITUATIONS)
def test_both_mark_the_same_jobs_as_ignored_and_persisted(
    situation: str, gearmand: Gearmand, job_server_host: JobServerHost
) -> None:
    with job_server_host.server() as own:
        assert play(own, SITUATIONS[situation]) == play(gearmand, SITUATIONS[situation])
