"""
Opens many connections: ``python -m tests.support.many_connections PORT COUNT``.

A separate process can raise its limit of file descriptors. It sends an ECHO_REQ on each connection, prints how many
were answered, and exits at the end of its standard input.
"""

from __future__ import annotations

import resource
import socket
import sys

from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.wire import packet

ECHO_REQUEST = packet(PacketType.ECHO_REQ, b"there?")
ANSWER = packet(PacketType.ECHO_RES, b"there?", magic=RESPONSE)


def main(port: int, count: int) -> None:
    """Connect, send the echo requests, print the count, and keep the connections open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd: list[socket.socket] = []
    answered = 0
    while len(crowd) < count:
        # When the accept queue is full, the kernel delays each further connection attempt by a second.
        some = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(min(50, count - len(crowd)))]
        for one in some:
            one.sendall(ECHO_REQUEST)
        answered += sum(one.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER for one in some)
        crowd += some
    print(answered, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
