"""
A process that connects many times: ``python -m tests.support.many_connections PORT COUNT``.

As a process of its own it may raise its limit of file descriptors. It asks for an echo on each connection, says on
standard output how many were answered, and leaves when its standard input ends.
"""

from __future__ import annotations

import resource
import socket
import sys

from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.wire import packet

QUESTION = packet(PacketType.ECHO_REQ, b"there?")
ANSWER = packet(PacketType.ECHO_RES, b"there?", magic=RESPONSE)


def main(port: int, count: int) -> None:
    """Connect, ask, count, stay."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd: list[socket.socket] = []
    answered = 0
    while len(crowd) < count:
        # Where more wait to be accepted than may, the system lets each connection attempt rest for a second.
        some = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(min(50, count - len(crowd)))]
        for one in some:
            one.sendall(QUESTION)
        answered += sum(one.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER for one in some)
        crowd += some
    print(answered, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
