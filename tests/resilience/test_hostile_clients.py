"""
Hostile clients over real sockets: they get bounded resources, and others are still served.

The server runs in its own process, whose memory is measured: unlike a duration, it is the same on any machine.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from geartrain.protocol.packets import HEADER, REQUEST, PacketType
from tests.support.eventually import wait_until
from tests.support.job_server import ROOT, JobServerHost, OwnJobServer
from tests.support.wire import Wire, packet

P = PacketType
MIB = 1024 * 1024


class Server:
    """A job server alone in its process, and a well-behaved client."""

    def __init__(self, host: JobServerHost, stack: contextlib.ExitStack, **options: Any) -> None:
        self._host = host
        self._stack = stack
        self.server: OwnJobServer = stack.enter_context(host.server(**options))
        self.good = self.connect()
        self.serves()
        self._before = host.memory

    def connect(self) -> Wire:
        """Open another connection, which is closed when the test ends."""
        return self._stack.enter_context(Wire(self.server.port))

    def connect_socket(self) -> socket.socket:
        """Open another connection without sending anything; it is closed when the test ends."""
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        return self._stack.enter_context(connection)

    def serves(self) -> bool:
        """Whether the well-behaved client and a new connection are served."""
        self.good.nothing_more()
        with Wire(self.server.port) as new:
            return new.ask_line(b"version").startswith(b"OK geartrain")

    @property
    def grown(self) -> int:
        """The growth of the server's memory since the start, in bytes."""
        return self._host.memory - self._before


class Starter:
    """Starts servers with options."""

    def __init__(self, host: JobServerHost, stack: contextlib.ExitStack) -> None:
        self.host = host
        self._stack = stack

    def __call__(self, **options: Any) -> Server:
        return Server(self.host, self._stack, **options)


@pytest.fixture
def start() -> Iterator[Starter]:
    # Without development mode, which changes the use of memory and makes everything three times as slow.
    host = JobServerHost(options=("-W", "error"))
    with contextlib.closing(host), contextlib.ExitStack() as stack:
        yield Starter(host, stack)


def is_closed(connection: socket.socket) -> bool:
    """Wait until a connection is closed; return whether nothing arrives before."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def send_until_cut(connection: socket.socket, data: bytes, at_most: int) -> int:
    """Send the same data repeatedly, and return the number of bytes sent before the connection was closed."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < at_most:
            connection.sendall(data)
            sent += len(data)
    return sent


def fill(connection: socket.socket, data: bytes) -> None:
    """Send the same data repeatedly, until the peer stops reading or closes the connection."""
    connection.settimeout(0.1)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            connection.sendall(data)


# Incomplete requests.


def test_headers_that_arrive_byte_by_byte_do_not_delay_others(start: Starter) -> None:
    server = start()
    slow = [server.connect() for _ in range(50)]
    for byte in packet(P.ECHO_REQ, b"at last"):
        for wire in slow:
            wire.socket.sendall(bytes([byte]))
        server.good.nothing_more()
    for wire in slow:
        wire.expect(P.ECHO_RES, b"at last")


@pytest.mark.parametrize("begin", [b"", packet(P.ECHO_REQ, b"x")[:11], b"status"], ids=["nothing", "header", "line"])
def test_a_peer_that_never_sends_a_complete_request_is_evicted_for_others(start: Starter, begin: bytes) -> None:
    server = start(max_connections=20)
    used = [server.connect() for _ in range(10)]
    for wire in used:
        wire.nothing_more()
    idle = [server.connect_socket() for _ in range(100)]
    for connection in idle:
        connection.sendall(begin) if begin else None
    assert server.serves()
    assert all(is_closed(connection) for connection in idle[:80])
    for wire in used:
        wire.nothing_more()


def test_at_the_connection_limit_one_more_is_refused_until_there_is_room(start: Starter) -> None:
    server = start(max_connections=5)
    used = [server.connect() for _ in range(4)]
    for wire in used:
        wire.nothing_more()
    assert is_closed(server.connect_socket())
    server.good.nothing_more()
    used[0].close()
    wait_until(lambda: len(server.good.ask(b"workers")) == 4)
    server.connect().nothing_more()


def test_a_flood_of_connections_does_not_exhaust_file_descriptors(start: Starter) -> None:
    assert start.host.order("limit_descriptors", soft=200) == 200
    server = start()
    idle = []
    for _ in range(12):
        idle += [server.connect_socket() for _ in range(50)]
        assert server.serves()
    assert all(is_closed(connection) for connection in idle[:450])


def test_connections_that_are_reset_immediately_leave_nothing(start: Starter) -> None:
    server = start()
    for _ in range(300):
        connection = server.connect_socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert server.serves()
    wait_until(lambda: len(server.good.ask(b"workers")) == 1)


def test_ten_thousand_connections_are_served_with_ten_kilobytes_each(start: Starter) -> None:
    """Fewer if the limit of file descriptors does not allow ten thousand."""
    allowed = start.host.order("limit_descriptors", soft=None)
    count = min(10_000, allowed - 512, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100) - 10
    server = start()
    command = [sys.executable, "-m", "tests.support.many_connections", str(server.server.port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == count
        assert server.serves()
        assert server.grown < count * 10 * 1024 + 5 * MIB
        process.communicate()
    wait_until(lambda: len(server.good.ask(b"workers")) == 1)


# Oversize data.


def test_a_packet_of_a_gigabyte_is_rejected_by_its_header(start: Starter) -> None:
    server = start()
    for size in (1 << 30, 0xFFFFFFFF):
        connection = server.connect_socket()
        connection.sendall(HEADER.pack(REQUEST, P.ECHO_REQ, size))
        assert is_closed(connection)
    assert server.serves()
    assert server.grown < MIB


def test_a_workload_of_a_gigabyte_is_rejected_early_and_not_stored(start: Starter) -> None:
    server = start()
    for size in (1 << 30, 0xFFFFFFFF):
        wire = server.connect()
        wire.socket.sendall(HEADER.pack(REQUEST, P.SUBMIT_JOB, size) + b"f\0\0" + bytes(8192))
        wire.expect(P.ERROR, b"ARGUMENT_TOO_LARGE", b"Workload exceeds max_packet_size")
        wire.socket.sendall(bytes(16 * MIB))
    assert server.serves()
    assert server.grown < 2 * MIB


def test_a_slowly_arriving_packet_takes_only_the_memory_of_what_has_arrived(start: Starter) -> None:
    server = start()
    for _ in range(20):
        connection = server.connect_socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEADER.pack(REQUEST, P.SUBMIT_JOB, 60 * MIB))
        for _ in range(300):
            connection.sendall(b"xy")
            server.good.nothing_more()
    assert server.serves()
    assert server.grown < 2 * MIB


def test_unfinished_packets_of_all_peers_together_are_bounded(start: Starter) -> None:
    """Each is allowed by itself; only the peers that hold most are disconnected."""
    server = start(max_buffer_size=16 * MIB)
    small = server.connect()
    small.socket.sendall(packet(P.ECHO_REQ, b"finished later")[:20])
    begun = HEADER.pack(REQUEST, P.SUBMIT_JOB, 8 * MIB)
    for _ in range(10):
        send_until_cut(server.connect_socket(), begun + bytes(4 * MIB), 1)
    assert server.serves()
    assert server.grown < 24 * MIB
    small.socket.sendall(packet(P.ECHO_REQ, b"finished later")[20:])
    small.expect(P.ECHO_RES, b"finished later")


def test_a_line_of_text_without_an_end_closes_the_connection(start: Starter) -> None:
    server = start()
    for _ in range(20):
        connection = server.connect_socket()
        assert send_until_cut(connection, b"x" * 4096, 100 * MIB) < 100 * MIB
    assert server.serves()
    assert server.grown < MIB


# Requests without reading the replies.


@pytest.mark.parametrize("asked", [packet(P.ECHO_REQ, bytes(500_000)), b"version\n" * 10_000, b"\n" * 100_000])
def test_a_peer_that_never_reads_its_replies_is_throttled(start: Starter, asked: bytes) -> None:
    server = start()
    for _ in range(2):
        fill(server.connect_socket(), asked)
        assert server.serves()
    assert server.grown < 2 * 8 * MIB


def test_unread_replies_of_all_peers_together_are_bounded(start: Starter) -> None:
    server = start(max_buffer_size=8 * MIB)
    slow = [server.connect_socket() for _ in range(12)]
    for connection in slow:
        fill(connection, packet(P.ECHO_REQ, bytes(900_000)))
        assert server.serves()
    assert server.grown < 16 * MIB


def test_floods_of_echo_requests_are_answered_in_turns(start: Starter) -> None:
    """Each turn processes what one read delivers."""
    server = start()
    floods = [server.connect() for _ in range(8)]
    count = 20_000
    for wire in floods:
        wire.socket.sendall(packet(P.ECHO_REQ, b"") * count)
        server.good.nothing_more()
    for wire in floods:
        for _ in range(count):
            wire.expect(P.ECHO_RES, b"")


# Filling stored state.


def test_thousands_of_uniques_and_functions_stop_at_the_limit(start: Starter) -> None:
    server = start(max_queue_size=10 * MIB)
    bad = server.connect()
    for number in range(200):
        jobs = [(b"f%d" % (1000 * number + n), b"u%d" % n, bytes(100)) for n in range(100)]
        bad.socket.sendall(b"".join(packet(P.SUBMIT_JOB, *job) for job in jobs))
        answers = [bad.receive() for _ in jobs]
    assert {kind for kind, _ in answers} == {P.ERROR}
    assert answers[0][1].startswith(b"QUEUE_ERROR")
    assert server.serves()
    assert server.grown < 16 * MIB
    bad.close()
    assert server.serves()
    wait_until(lambda: not server.good.ask(b"show jobs"))


def test_a_worker_that_registers_endless_functions_is_disconnected(start: Starter) -> None:
    server = start(max_queue_size=4 * MIB)
    bad = server.connect_socket()
    names = (
        b"".join(packet(P.CAN_DO, b"%d" % n) for n in range(first, first + 1000)) for first in range(0, 10**6, 1000)
    )
    with contextlib.suppress(ConnectionError):
        for name in names:
            bad.sendall(name)
    assert is_closed(bad)
    assert server.serves()
    assert server.grown < 8 * MIB
