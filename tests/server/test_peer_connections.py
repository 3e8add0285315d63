"""The limits on connections and buffers of a job server, and which connections it closes when they are reached."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
from typing import Any

import pytest

from geartrain import JobServer
from geartrain.address import Address
from geartrain.connection import Connection
from geartrain.protocol.packets import HEADER, PacketType
from geartrain.protocol.server import dispatch
from geartrain.server import peer_connections, tls_acceptor
from geartrain.server.peer_connections import PeerBridge, ServerState, connection_limit
from geartrain.server.tls_acceptor import TlsAcceptor
from tests.support import certificates
from tests.support.async_wire import AsyncWire
from tests.support.eventually import eventually
from tests.support.inside import state_of
from tests.support.wire import packet

P = PacketType


@pytest.mark.parametrize(
    ("descriptors", "room"),
    [(100, 50), (1024, 512), (4096, 3584), (20_000, 10_000), (resource.RLIM_INFINITY, 10_000)],
)
def test_the_connection_limit_leaves_file_descriptors_for_other_uses(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, room: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, resource.RLIM_INFINITY))
    assert connection_limit(10_000) == room
    assert connection_limit(10) == 10


async def open_wire(server: JobServer, tls: ssl.SSLContext | None = None) -> AsyncWire:
    address = Address.parse(server.address)
    return AsyncWire(*await asyncio.open_connection(address.host, address.port, ssl=tls))


async def echoes(wire: AsyncWire) -> bool:
    wire.send(P.ECHO_REQ, b"there?")
    return await wire.receive() == (P.ECHO_RES, b"there?")


async def is_closed(wire: AsyncWire) -> bool:
    try:
        return await wire._reader.read(1) == b""
    except ConnectionError:
        return True


async def leave(*wires: AsyncWire) -> None:
    for wire in wires:
        wire.writer.transport.abort()
    await asyncio.gather(*(wire.writer.wait_closed() for wire in wires), return_exceptions=True)


async def test_the_oldest_connection_without_a_request_is_evicted_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0, max_connections=3) as server:
        used = await open_wire(server)
        assert await echoes(used)
        oldest, half = await open_wire(server), await open_wire(server)
        half.writer.write(packet(P.ECHO_REQ, b"x")[:11])
        new = await open_wire(server)
        assert await echoes(new)
        assert await is_closed(oldest)
        assert "evicted: the connection limit is reached, and it has not sent a complete request" in caplog.text
        half.writer.write(packet(P.ECHO_REQ, b"x")[11:])  # with a complete request, it can no longer be evicted
        assert await half.receive() == (P.ECHO_RES, b"x")
        refused = await open_wire(server)
        assert await is_closed(refused)
        assert "refused a connection: all 3 connections are in use" in caplog.text
        assert await echoes(used)
        await leave(used, oldest, half, new, refused)


async def break_protocol_unread(state: ServerState, wire: AsyncWire) -> PeerBridge:
    """Stop reading at the newest peer, leave responses unread, and break the protocol; return its bridge."""
    bridge = list(state.bridges.values())[-1]
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while bridge.connection.unsent < 300_000:
        received = bridge.connection.bytes_received
        wire.send(P.ECHO_REQ, bytes(100_000))
        await eventually(lambda: bridge.connection.bytes_received >= received + 100_000)  # noqa: B023
    wire.writer.write(b"\0garbage")
    await eventually(lambda: bridge not in state.bridges.values())
    return bridge


@pytest.mark.parametrize("encrypted", [False, True], ids=["plaintext", "TLS"])
async def test_a_failed_connection_with_unread_responses_counts_toward_the_limit(
    caplog: pytest.LogCaptureFixture, encrypted: bool
) -> None:
    """The socket stays open until the last responses are read: in plaintext, possibly forever."""
    caplog.set_level(logging.INFO, "geartrain.server")
    server_side, client_side = (certificates.for_server(), certificates.for_client()) if encrypted else (None, None)
    async with JobServer(port=0, max_connections=3, tls=server_side) as server:
        state, wires = state_of(server), []
        for _ in range(4):
            wires.append(wire := await open_wire(server, client_side))
            assert await echoes(wire)
            await break_protocol_unread(state, wire)
            await eventually(lambda: len(state.open_bridges) <= 3)
        assert "evicted: the connection limit is reached, and it has not read its last responses" in caplog.text
        await leave(*wires)


async def test_a_connection_with_only_a_partial_request_is_evicted() -> None:
    async with JobServer(port=0, max_connections=2) as server:
        used = await open_wire(server)
        assert await echoes(used)
        half = await open_wire(server)
        half.writer.write(packet(P.ECHO_REQ, b"x")[:-1])
        await eventually(lambda: len(state_of(server).bridges) == 2)
        bridge = list(state_of(server).bridges.values())[-1]
        await eventually(lambda: bridge.connection.bytes_received == HEADER.size)
        new = await open_wire(server)
        assert await echoes(new)
        assert await is_closed(half)
        assert await echoes(used)
        await leave(used, half, new)


async def test_a_closing_connection_is_evicted_before_one_without_a_request() -> None:
    async with JobServer(port=0, max_connections=3) as server:
        used, silent, closing = [await open_wire(server) for _ in range(3)]
        assert await echoes(used)
        assert await echoes(closing)
        bridge = await break_protocol_unread(state_of(server), closing)
        assert bridge in state_of(server).closing_bridges
        new = await open_wire(server)
        assert await echoes(new)
        assert bridge not in state_of(server).open_bridges
        assert await echoes(silent)
        await leave(used, silent, closing, new)


async def test_unread_responses_of_a_closing_connection_count_toward_the_buffer_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0) as server:
        other, wire = await open_wire(server), await open_wire(server)
        assert await echoes(other)
        assert await echoes(wire)
        state = state_of(server)
        bridge = await break_protocol_unread(state, wire)
        assert bridge in state.closing_bridges
        state.limits = state.limits._replace(buffer_size=200_000)
        state.add_traffic(state._allowance)
        state.flush_broker()
        assert "evicted: it used" in caplog.text
        assert not state.closing_bridges
        assert await echoes(other)
        await leave(wire, other)


async def test_requests_of_a_closing_connection_do_not_count_toward_the_buffer_limit() -> None:
    """They are never processed; only its unread responses are still buffered."""
    async with JobServer(port=0) as server:
        wire = await open_wire(server)
        assert await echoes(wire)
        (peer, bridge), *_ = state_of(server).bridges.items()
        bridge.data_received(packet(P.ECHO_REQ, b"x") + packet(4711) + packet(P.PRE_SLEEP) * 20_000)
        assert peer.failure is not None
        assert bridge in state_of(server).closing_bridges
        assert bridge.buffered_size == bridge.connection.unsent < 20_000
        await leave(wire)


async def test_buffers_are_recounted_only_after_enough_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    buffered: Any = vars(PeerBridge)["buffered_size"]

    def count(bridge: PeerBridge) -> Any:
        nonlocal counted
        counted += 1
        return buffered.fget(bridge)

    monkeypatch.setattr(PeerBridge, "buffered_size", property(count))
    async with JobServer(port=0, max_buffer_size=1_000_000) as server:
        wire = await open_wire(server)
        for _ in range(50):
            wire.send(P.ECHO_REQ, bytes(100_000))
            assert await wire.receive() == (P.ECHO_RES, bytes(100_000))
        # 10 MB is transferred; a recount is due after 1 MB minus what is buffered at that time.
        assert 9 <= counted <= 15
        await leave(wire)


async def test_the_connection_with_the_largest_buffers_is_evicted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0, max_buffer_size=1_000_000) as server:
        small, large = await open_wire(server), await open_wire(server)
        small.writer.write(packet(P.ECHO_REQ, bytes(300_000))[:-1])
        large.writer.write(packet(P.ECHO_REQ, bytes(2_000_000))[:-1])
        assert await is_closed(large)
        assert "of the 1000000 bytes allowed for all connections together" in caplog.text
        small.writer.write(b"\0")
        assert await small.receive() == (P.ECHO_RES, bytes(300_000))
        await leave(small, large)


async def test_unread_responses_count_toward_the_buffer_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0, max_buffer_size=250_000) as server:
        wire, other = await open_wire(server), await open_wire(server)
        assert await echoes(wire)
        bridges = state_of(server).bridges
        bridge = next(iter(bridges.values()))
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while bridge in bridges.values():
            received = bridge.connection.bytes_received
            wire.send(P.ECHO_REQ, bytes(100_000))
            await eventually(
                lambda: bridge.connection.bytes_received >= received + 100_000 or bridge not in bridges.values()  # noqa: B023
            )
        assert "of the 250000 bytes allowed for all connections together" in caplog.text
        assert await echoes(other)
        await leave(wire, other)


async def test_pending_requests_count_toward_the_buffer_limit_until_processed() -> None:
    async with JobServer(port=0) as server:
        wire = await open_wire(server)
        assert await echoes(wire)
        (peer, bridge), *_ = state_of(server).bridges.items()
        # Called directly rather than by the transport, so that the check runs before the next event loop iteration.
        bridge.data_received(packet(P.ECHO_REQ, bytes(1_500_000)) + packet(P.PRE_SLEEP) * 20_000)
        assert peer.pending_requests
        assert bridge.buffered_size >= bridge.connection.unsent + 20_000 * HEADER.size
        assert await wire.receive() == (P.ECHO_RES, bytes(1_500_000))
        assert await echoes(wire)
        await eventually(lambda: bridge.buffered_size == 0)
        await leave(wire)


async def test_a_connection_with_too_many_pending_requests_is_evicted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The peer does not read, so its requests stay pending: they are neither responses nor partial packets."""
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0, max_buffer_size=20_000_000) as server:
        wire, other = await open_wire(server), await open_wire(server)
        assert await echoes(wire)
        assert await echoes(other)
        state = state_of(server)
        peer, bridge = next(iter(state.bridges.items()))
        dispatch.receive(
            state.broker, peer, packet(P.ECHO_REQ, bytes(2_000_000)) + packet(P.PRE_SLEEP) * 400_000, state.now
        )
        assert peer.pending_size > 20_000_000
        state.add_traffic(30_000_000)
        state.flush_broker()
        assert "evicted: it used" in caplog.text
        assert bridge.buffered_size == 0
        assert await echoes(other)
        await leave(wire, other)


async def test_total_traffic_of_a_connection_is_not_limited() -> None:
    """Each recount finds that what was received and answered is no longer buffered."""
    async with JobServer(port=0, max_buffer_size=1_000_000) as server:
        wire = await open_wire(server)
        for _ in range(50):
            wire.send(P.ECHO_REQ, bytes(100_000))
            assert await wire.receive() == (P.ECHO_RES, bytes(100_000))
        await leave(wire)


async def test_buffers_are_recounted_sooner_when_the_limit_is_near() -> None:
    async with JobServer(port=0, max_buffer_size=1_000_000) as server:
        large, small = await open_wire(server), await open_wire(server)
        assert await echoes(small)
        large.writer.write(packet(P.ECHO_REQ, bytes(800_000))[:-1])
        first = next(iter(state_of(server).bridges.values()))
        await eventually(lambda: first.connection.bytes_received > 800_000)
        state_of(server).add_traffic(250_000)
        state_of(server).flush_broker()
        assert first.buffered_size > 800_000
        small.writer.write(packet(P.ECHO_REQ, bytes(300_000))[:-1])
        assert await is_closed(large)
        await leave(large, small)


async def test_unfinished_tls_handshakes_are_dropped_for_new_ones(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with JobServer(port=0, max_connections=8, tls=certificates.for_server()) as server:
        idle = []
        for _ in range(5):
            address = Address.parse(server.address)
            idle.append(AsyncWire(*await asyncio.open_connection(address.host, address.port)))
            wire = await open_wire(server, certificates.for_client())
            assert await echoes(wire)
            await leave(wire)
        assert await is_closed(idle[0])
        assert "refused: the limit on TLS handshakes is reached, and its handshake is not complete" in caplog.text
        await leave(*idle)


class CallCounter:
    """Counts the calls of one method during each call of another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outer: tuple[type, str], inner: tuple[type, str]) -> None:
        self.counts: list[int] = []
        wrapped_outer, wrapped_inner = getattr(*outer), getattr(*inner)

        def count_outer(*arguments: Any) -> None:
            self.counts.append(0)
            wrapped_outer(*arguments)

        def count_inner(*arguments: Any) -> None:
            self.counts[-1] += 1
            wrapped_inner(*arguments)

        monkeypatch.setattr(*outer, count_outer)
        monkeypatch.setattr(*inner, count_inner)


async def test_output_is_sent_to_a_few_connections_per_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_connections, "_MAX_PEERS_PER_TURN", 3)
    async with JobServer(port=0) as server:
        wires = [await open_wire(server) for _ in range(20)]
        for wire in wires:
            wire.send(P.CAN_DO, b"f")
            wire.send(P.PRE_SLEEP)
            assert await echoes(wire)
        calls = CallCounter(monkeypatch, (ServerState, "flush_broker"), (PeerBridge, "send_output"))
        client = await open_wire(server)
        client.send(P.SUBMIT_JOB, b"f", b"", b"")
        for wire in wires:
            assert await wire.receive() == (P.NOOP, b"")
        assert (await client.receive())[0] is P.JOB_CREATED
        assert max(calls.counts) == 3
        await leave(client, *wires)


async def test_clean_up_after_a_disconnected_peer_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("broker", "dispatch"):
        monkeypatch.setattr(f"geartrain.protocol.server.{module}.MAX_TURN_WORK", 100)
    async with JobServer(port=0) as server:
        client, other = await open_wire(server), await open_wire(server)
        for number in range(200):
            client.send(P.SUBMIT_JOB, b"f", b"%d" % number, b"")
            await client.receive()
        await leave(client)
        broker = state_of(server).broker
        await eventually(lambda: not broker.queue.jobs)
        assert not broker.unfinished_work
        assert await echoes(other)
        await leave(other)


async def test_a_few_connections_are_closed_per_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests on connections that are still open are not processed meanwhile."""
    monkeypatch.setattr(peer_connections, "_MAX_CLOSED_PER_TURN", 3)
    server = JobServer(port=0)
    await server.start()
    wires = [await open_wire(server) for _ in range(20)]
    for wire in wires:
        assert await echoes(wire)
    calls = CallCounter(monkeypatch, (ServerState, "_close_some"), (Connection, "abort"))
    for wire in wires:
        wire.send(P.ECHO_REQ, b"too late")
    await server.aclose()
    assert calls.counts == [3, 3, 3, 3, 3, 3, 2]
    assert all([await is_closed(wire) for wire in wires])
    await leave(*wires)


async def test_a_few_tls_handshakes_are_started_per_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_acceptor, "_STARTED_PER_TURN", 2)
    started: list[int] = []
    start_some = TlsAcceptor._start_some

    def begin(self: TlsAcceptor, loop: asyncio.AbstractEventLoop) -> None:
        before = len(self._turns)
        start_some(self, loop)
        started.append(before - len(self._turns))

    monkeypatch.setattr(TlsAcceptor, "_start_some", begin)
    async with JobServer(port=0, tls=certificates.for_server()) as server:
        wires = await asyncio.gather(*(open_wire(server, certificates.for_client()) for _ in range(9)))
        for wire in wires:
            assert await echoes(wire)
        assert sum(started) == 9
        assert max(started) <= 2
        await leave(*wires)
