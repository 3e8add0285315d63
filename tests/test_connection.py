"""Bytes are written together once a turn, or earlier if there are many, and read into a shared buffer."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from geartrain.connection import Connection


class Transport(asyncio.Transport):
    """Records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    close = abort


class Receiver:
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def writing_resumed(self) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        pass


def connected() -> tuple[Connection, Transport]:
    connection, transport = Connection(lambda _: Receiver()), Transport()
    connection.connection_made(transport)
    return connection, transport


async def test_bytes_sent_in_one_turn_are_written_together() -> None:
    connection, transport = connected()
    for number in range(10):
        connection.send(b"%d" % number)
    assert not transport.written
    await asyncio.sleep(0)
    assert transport.written == [b"0123456789"]
    assert connection.bytes_sent == connection.bytes_queued == 10


async def test_many_pieces_in_one_turn_are_written_before_it_ends() -> None:
    connection, transport = connected()
    pieces = [b"%0100d," % number for number in range(10_000)]
    for number, piece in enumerate(pieces, 1):
        connection.send(piece)
        assert connection.unsent < 65536
        assert connection.bytes_queued == connection.bytes_sent + connection.unsent == number * 101
    await asyncio.sleep(0)
    assert b"".join(transport.written) == b"".join(pieces)
    assert len(transport.written) < 100


async def test_bytes_sent_by_before_flush_are_written_together_with_the_others() -> None:
    connection, transport = connected()
    deferred = [b"later"]
    connection.before_flush = lambda: connection.send(deferred.pop()) if deferred else None
    connection.send(b"now ")
    assert not transport.written
    await asyncio.sleep(0)
    assert transport.written == [b"now later"]
    deferred.append(bytes(100_000))
    connection.flush_soon()
    await asyncio.sleep(0)
    assert transport.written == [b"now later", bytes(100_000)]
    deferred.append(b"x")
    connection.flush_soon()
    connection.abort()
    await asyncio.sleep(0)
    assert len(transport.written) == 2


async def test_a_turn_has_one_flush_however_often_it_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, transport = connected()
    deferred = [b"later"]
    connection.before_flush = lambda: connection.send(deferred.pop()) if deferred else None
    flushes: list[object] = []
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    monkeypatch.setattr(
        connection, "_loop", SimpleNamespace(call_soon=lambda *call, **how: flushes.append(call_soon(*call, **how)))
    )
    for _ in range(3):
        connection.send(b"now ")
        connection.flush_soon()
    for _ in range(3):
        await asyncio.sleep(0)
    assert transport.written == [b"now now now later"]
    assert len(flushes) == 1


async def test_a_failed_flush_does_not_prevent_later_ones() -> None:
    connection, transport = connected()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fail() -> None:
        connection.before_flush = None
        raise ValueError("cannot be written")

    connection.before_flush = fail
    connection.flush_soon()
    await asyncio.sleep(0)
    assert [str(context["exception"]) for context in reported] == ["cannot be written"]
    connection.send(b"x")
    await asyncio.sleep(0)
    assert transport.written == [b"x"]


@pytest.mark.parametrize("end", ["abort", "close", "lost"])
async def test_bytes_sent_after_the_end_are_dropped(end: str) -> None:
    connection, transport = connected()
    connection.send(b"before")
    if end == "lost":
        connection.connection_lost(None)
    else:
        getattr(connection, end)()
    written = list(transport.written)
    assert written == ([b"before"] if end == "close" else [])
    connection.send(b"after")
    connection.send(bytes(100_000))
    await asyncio.sleep(0)
    assert transport.written == written
    assert connection.unsent == 0
    assert connection.bytes_sent == sum(map(len, written))


async def test_long_pieces_are_written_without_a_copy_and_in_order() -> None:
    connection, transport = connected()
    pieces = [b"a", b"b", bytes(100_000), b"c", bytes(70_000), bytes(80_000), b"d", b"e"]
    for piece in pieces:
        connection.send(piece)
    await asyncio.sleep(0)
    assert transport.written == [b"ab", *pieces[2:6], b"de"]


async def test_bytes_sent_before_the_connection_is_made_are_written_afterwards() -> None:
    connection, transport = Connection(lambda _: Receiver()), Transport()
    for _ in range(1000):
        connection.send(b"x")
    await asyncio.sleep(0)
    connection.connection_made(transport)
    await asyncio.sleep(0)
    assert b"".join(transport.written) == b"x" * 1000


async def test_received_bytes_are_kept_while_other_connections_receive() -> None:
    receivers = [Receiver(), Receiver()]
    connections = [Connection(lambda _, receiver=receiver: receiver) for receiver in receivers]  # type: ignore[misc]
    for number in range(10):
        for name, connection in zip((b"a", b"b"), connections, strict=True):
            data = name * 1000 + b"%d" % number
            connection.get_buffer(-1)[: len(data)] = data
            connection.buffer_updated(len(data))
    for name, receiver in zip((b"a", b"b"), receivers, strict=True):
        assert receiver.received == [name * 1000 + b"%d" % number for number in range(10)]
    assert [connection.bytes_received for connection in connections] == [10_010, 10_010]


async def test_connections_of_a_loop_share_one_buffer() -> None:
    first, second = Connection(lambda _: Receiver()), Connection(lambda _: Receiver())
    assert first.get_buffer(-1) is second.get_buffer(-1)


def test_connections_of_two_loops_share_no_buffer() -> None:
    """The loops may run in two threads."""

    async def get_buffer() -> memoryview:
        return Connection(lambda _: Receiver()).get_buffer(-1)

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(get_buffer()) is not second.run(get_buffer())


def test_the_buffer_is_freed_with_its_loop() -> None:
    async def refer_to_buffer() -> weakref.ref[memoryview]:
        return weakref.ref(Connection(lambda _: Receiver()).get_buffer(-1))

    with asyncio.Runner() as runner:
        buffer = runner.run(refer_to_buffer())
    del runner
    gc.collect()
    assert buffer() is None


@asynccontextmanager
async def socket_pair() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # threads write to no socket but those of TCP
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with there:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(lambda _: Receiver()), sock=here
        )
        yield connection, there
        connection.abort()
        await connection.wait_closed()


def send_now(connection: Connection, *pieces: bytes) -> None:
    with connection.lock:
        for data in pieces:
            connection.send(data)
        connection.flush()


def send_in_thread(connection: Connection, *pieces: bytes) -> None:
    thread = threading.Thread(target=send_now, args=(connection, *pieces))
    thread.start()
    thread.join()


async def receive(sock: socket.socket, size: int) -> bytes:
    sock.setblocking(False)
    received = bytearray()
    while len(received) < size:
        received += await asyncio.get_running_loop().sock_recv(sock, size)
    return bytes(received)


async def test_what_a_thread_sends_is_written() -> None:
    async with socket_pair() as (connection, peer):
        send_in_thread(connection, b"ab", b"c" * 100_000, b"d")
        assert await receive(peer, 100_003) == b"ab" + b"c" * 100_000 + b"d"
        assert (connection.unsent, connection.bytes_sent) == (0, 100_003)


async def test_what_a_thread_sends_follows_what_the_loop_has_queued() -> None:
    async with socket_pair() as (connection, peer):
        connection.send(b"first ")
        send_in_thread(connection, b"second ")
        connection.send(b"third")
        assert await receive(peer, 18) == b"first second third"


async def test_the_loop_writes_what_the_kernel_does_not_take_from_a_thread() -> None:
    size = 20_000_000
    async with socket_pair() as (connection, peer):
        send_in_thread(connection, b"a" * size, b"b")
        assert connection.unsent > 0
        send_in_thread(connection, b"c")  # the rest is in the transport by now, or queued
        received = await receive(peer, size + 2)
        assert received.rstrip(b"c").rstrip(b"b") == b"a" * size
        assert received[-2:] == b"bc"


async def test_a_thread_writes_nothing_once_the_connection_is_lost() -> None:
    async with socket_pair() as (connection, peer):
        connection.abort()
        await connection.wait_closed()
        send_in_thread(connection, b"late")
        await asyncio.sleep(0)
        assert connection.unsent == 0
        assert peer.recv(1) == b""


async def test_a_thread_does_not_overtake_data_that_the_transport_has_taken_out_of_its_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From Python 3.12 on, the transport's buffer may look empty to a thread while a packet is written in part."""
    async with socket_pair() as (connection, sock):
        written: list[bytes] = []
        with monkeypatch.context() as patch:
            size = 1
            transport = SimpleNamespace(
                write=written.append, is_closing=lambda: False, get_write_buffer_size=lambda: size
            )
            patch.setattr(connection, "_transport", transport)
            connection.send(b"part")
            connection.flush()
            size = 0
            await asyncio.to_thread(send_in_thread, connection, b"next")
            await asyncio.sleep(0)
        assert written == [b"part", b"next"]
        await asyncio.to_thread(send_in_thread, connection, b"last")
        assert await receive(sock, 4) == b"last"  # nothing else was written to the socket


class HandoverLock:
    """A lock after whose first release a thread sends something before the releasing thread continues."""

    def __init__(self, connection: Connection) -> None:
        self._lock = connection.lock
        self._connection = connection
        self._is_released = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if not self._is_released:
            self._is_released = True
            send_in_thread(self._connection, b"second")


async def test_what_a_thread_queues_right_after_a_flush_is_written() -> None:
    """The thread cannot write itself. If it finds that a flush is due, that flush must still be to come."""
    async with socket_pair() as (connection, sock):
        connection._descriptor = None
        connection.send(b"first ")
        connection.lock = HandoverLock(connection)  # type: ignore[assignment]
        async with asyncio.timeout(5):
            assert await receive(sock, 12) == b"first second"
