"""Tests of the proxy that other tests use to disturb connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.eventually import eventually
from tests.support.gearmand import free_port
from tests.support.proxy import BY_RESET, Proxy, Way
from tests.support.scripted import ScriptedServer, scripted_server, sleep_forever

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await reader.read()


@asynccontextmanager
async def proxied(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = echo,
) -> AsyncIterator[tuple[Proxy, ScriptedServer]]:
    async with scripted_server(script) as server, Proxy(server.address) as proxy:
        yield proxy, server


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Streams]:
    host, _, port = proxy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


class Chunks(asyncio.Protocol):
    """Records each chunk received."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)


async def test_bytes_are_forwarded_both_ways_and_counted() -> None:
    data = bytes(range(256)) * 4000
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        assert proxy.passed(Way.TO_SERVER) == proxy.passed(Way.TO_CLIENT) == len(data)
        assert proxy.passed(Way.BOTH) == 2 * len(data)
        assert (proxy.accepted, proxy.connections) == (1, 1)


async def test_a_half_close_is_forwarded_and_the_reply_still_arrives() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"
        await eventually(lambda: proxy.connections == 0)


async def test_a_reset_is_forwarded() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)

    async with proxied(hang_up) as (proxy, _), connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_cut_closes_both_sides_cleanly_and_later_bytes_are_dropped() -> None:
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"before")
        received.append(await reader.read())
        writer.write(b"after")

    async with proxied(listen) as (proxy, _), connected(proxy) as (reader, writer):
        writer.write(b"before")
        await eventually(lambda: proxy.passed(Way.BOTH) == 12)
        proxy.cut()
        writer.write(b"after")
        assert await reader.read() == b"before"
        await eventually(lambda: received == [b"before"])
        assert proxy.connections == 1
        writer.write_eof()
        await eventually(lambda: proxy.connections == 0)


@pytest.mark.parametrize("split", [False, True])
async def test_a_cut_happens_after_an_exact_number_of_bytes(split: bool) -> None:
    for size in (1, 5, 9):
        async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
            proxy.split(on=split)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            proxy.cut_after(Way.TO_CLIENT, size)
            writer.write(b"123456789")
            assert await reader.read() == b"123456789"[:size]


async def test_a_reset_closes_existing_connections_but_not_new_ones() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer), connected(proxy) as (second, _):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await eventually(lambda: proxy.connections == 2)
        await proxy.reset()
        assert proxy.connections == 0
        for broken in (reader, second):
            with pytest.raises(ConnectionResetError):
                await broken.read()
        async with connected(proxy) as (reader, writer):
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"


@pytest.mark.parametrize("way", [Way.TO_SERVER, Way.TO_CLIENT])
async def test_a_stall_blocks_one_direction_and_loses_nothing(way: Way) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"greeting")
        await reader.readexactly(len(b"request"))
        await sleep_forever()

    async with proxied(greet) as (proxy, _):
        proxy.stall(way)
        async with connected(proxy) as (_, writer):
            writer.write(b"request")
            free = Way.BOTH & ~way
            await eventually(lambda: proxy.passed(free) > 0)
            assert proxy.passed(way) == 0
            proxy.resume(way)
            await eventually(lambda: proxy.passed(Way.BOTH) == len(b"requestgreeting"))


async def test_a_stall_delays_the_end_of_a_connection_too() -> None:
    ended: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(await reader.read())

    async with proxied(listen) as (proxy, server), connected(proxy) as (_, writer):
        await eventually(lambda: server.connections == 1)
        proxy.stall(Way.TO_SERVER)
        writer.write(b"x")
        writer.transport.close()
        async with connected(proxy):  # once this connection is up, everything else would have arrived, too
            await eventually(lambda: server.connections == 2)
        assert ended == []
        proxy.resume()
        await eventually(lambda: b"x" in ended)


async def test_delayed_chunks_arrive_late_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        proxy.delay(0.02, Way.TO_SERVER)
        earlier: list[bool] = []
        loop.call_later(0.01, earlier.append, True)
        for piece in (b"1", b"2", b"3"):
            writer.write(piece)
            await asyncio.sleep(0)
        assert await reader.readexactly(3) == b"123"
        assert earlier
        proxy.delay(0.0)
        writer.write(b"4")
        assert await reader.readexactly(1) == b"4"


async def test_split_bytes_are_read_one_by_one() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0123456789" * 10)
        await sleep_forever()

    async with proxied(talk) as (proxy, _):
        proxy.split(Way.TO_CLIENT)
        host, _, port = proxy.address.rpartition(":")
        transport, protocol = await asyncio.get_running_loop().create_connection(Chunks, host, int(port))
        await eventually(lambda: proxy.passed(Way.TO_CLIENT) == 100)
        await eventually(lambda: len(b"".join(protocol.chunks)) == 100)
        assert b"".join(protocol.chunks) == b"0123456789" * 10
        assert len(protocol.chunks) > 90, "a busy system may merge a few"
        transport.abort()


async def test_new_connections_are_refused_and_existing_ones_stay() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        await eventually(lambda: proxy.connections == 1)
        for _ in range(2):
            await proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                async with connected(proxy):
                    raise AssertionError("the connection was accepted")
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await proxy.accept()
            async with connected(proxy) as (new_reader, new_writer):
                new_writer.write(b"y")
                assert await new_reader.readexactly(1) == b"y"


async def test_a_dead_proxy_accepts_connections_and_never_replies() -> None:
    async with proxied() as (proxy, server):
        await proxy.play_dead()
        async with connected(proxy) as (reader, writer):
            writer.write(b"x")
            await eventually(lambda: proxy.connections == 1)
            await proxy.heal()
            async with connected(proxy) as (new_reader, new_writer):
                new_writer.write(b"y")
                assert await new_reader.readexactly(1) == b"y"
            assert server.connections == 1
            assert proxy.passed(Way.TO_SERVER) == 1
            await proxy.reset()
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_connections_to_a_dead_target_are_reset_and_a_new_target_is_used() -> None:
    async with proxied() as (proxy, server):
        proxy.target = f"127.0.0.1:{free_port()}"
        async with connected(proxy) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        proxy.target = server.address
        async with connected(proxy) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"


async def test_a_healed_proxy_behaves_as_at_the_start() -> None:
    async with proxied() as (proxy, _):
        proxy.stall()
        proxy.split()
        proxy.delay(60.0)
        proxy.cut_after(Way.BOTH, 1)
        await proxy.refuse()
        await proxy.heal()
        async with connected(proxy) as (reader, writer):
            writer.write(b"xyz")
            assert await reader.readexactly(3) == b"xyz"
            assert proxy.connections == 1
