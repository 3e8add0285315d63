"""A network in memory; a seed decides its delays and faults."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from geartrain.resolver import SocketAddress
from tests.simulation.loop import SimulatedLoop, home

SLOW_PIECE = 200  # bytes
SLOW_DELAY = 0.02  # seconds for each of them
MAX_READS_WHILE_FULL = 1  # a read that is under way when the responses to the previous one fill the buffer

Tap = Callable[["Wire", bytes], None]


class Wire(asyncio.Transport):
    """One end of a connection. Bytes arrive at the other end later, in pieces, in order."""

    def __init__(
        self, network: Network, protocol: asyncio.BufferedProtocol, local: str, remote: str, context: Context
    ) -> None:
        super().__init__()
        self.network = network
        self.context = context  # in which the protocol is called: that of the caller of connect or listen
        self.protocol = protocol
        self.local = local
        self.remote = remote
        self.other: Wire | None = None
        self.closing = False  # nothing more is written
        self.dead = False  # connection_lost is scheduled, or was called
        self._gone = False  # nothing more is delivered
        self.silenced = False  # bytes written here are lost, and neither end is notified
        self.held = False  # bytes written here arrive once released
        self.slow = False  # bytes written here arrive a few at a time
        self.is_full = False  # the protocol's writing is paused
        self._paused = False
        self._read_while_full = 0  # pieces
        self._on_its_way: deque[bytes] = deque()
        self._size = 0
        self._high = 65536
        self._delivery: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        return f"{self.local} -> {self.remote}"

    # The transport's interface.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            host, _, port = self.remote.rpartition(":")
            return host, int(port)
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = min(high or 65536, self.network.write_buffer)

    def get_write_buffer_size(self) -> int:
        return max(0, self._size - self.network.kernel)

    def is_closing(self) -> bool:
        return self.closing or self.dead

    @property
    def owner(self) -> str:
        """Whether this is the end of a "client", a "worker" or a "server"."""
        return "server" if self.local.endswith(":4730") else self.local.partition(":")[0].partition("-")[0]

    @property
    def is_hindered(self) -> bool:
        """Whether bytes of either direction are delayed, stopped or lost."""
        ends = (self, self.other) if self.other is not None else (self,)
        return any(end.held or end.slow or end.silenced or end.is_full or end._paused for end in ends)

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        self.network.occurred[f"reading paused: {self.owner}"] += 1

    def resume_reading(self) -> None:
        self._paused = False
        if self.other is not None:
            self.other.schedule()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closing() or not data:
            return
        data = bytes(data)
        unread = self.get_write_buffer_size()
        if self.is_full and self.owner == "server" and unread > self.network.max_backlog:
            self.network.broken.append(f"{self} is sent more although {unread} bytes are unread")
        self.network.tap(self, data)
        self.inject(data)
        if self.get_write_buffer_size() > self._high and not self.is_full:
            self.is_full = True
            self.network.occurred[f"writing paused: {self.owner}"] += 1
            self.protocol.pause_writing()

    def inject(self, data: bytes) -> None:
        """Send bytes that the protocol has not written."""
        if self.is_closing():
            return
        self._size += len(data)
        self._on_its_way.extend(self.network.cut(data))
        self.schedule()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self.is_closing():
            self.closing = True
            self._finish_closing()
            self.schedule()

    def _finish_closing(self) -> None:
        """Call connection_lost once the kernel has all that was written; it goes on delivering that."""
        if self.closing and not self.dead and not self.get_write_buffer_size():
            self.dead = True
            self.network.loop.call_soon(self.protocol.connection_lost, None, context=self.context)

    def abort(self) -> None:
        self.die(None)
        if self.other is not None and not self.silenced:
            self.network.later(self.other.die, ConnectionResetError(104, "reset by peer"))

    # Delivery.

    def die(self, error: Exception | None) -> None:
        """Lose the connection: drop what is on its way, and call connection_lost once, in the next turn of the loop."""
        self._on_its_way.clear()
        self._gone = True
        if self._delivery is not None:
            self._delivery.cancel()
        self.network.wires.pop(self, None)
        if not self.dead:
            self.dead = True
            self.network.loop.call_soon(self.protocol.connection_lost, error, context=self.context)
        if self._paused and self.other is not None:
            self.other.schedule()  # it waited for this end to read, and now detects that the peer is gone

    def schedule(self) -> None:
        """Schedule the delivery of the next piece."""
        if self._delivery is None and not self._gone and not self.held and (self._on_its_way or self.closing):
            self._delivery = self.network.later(self._deliver, slowly=self.slow)

    def _deliver(self) -> None:
        self._delivery = None
        other = self.other
        if self._gone or self.held or other is None:
            return
        if self.silenced and self._on_its_way:
            # The sender's kernel keeps retransmitting lost bytes, so its buffer stays as full as it is.
            return
        if not self._on_its_way:
            if self.closing:
                self.die(None)
                if not self.silenced:
                    self.network.later(other.hang_up)
            return
        if other._paused and not other.dead:
            return  # resume_reading continues
        data = self._on_its_way.popleft()
        if self.slow:
            data, rest = data[:SLOW_PIECE], data[SLOW_PIECE:]
            if rest:
                self._on_its_way.appendleft(rest)
        self._size -= len(data)
        if other.dead:
            self.die(ConnectionResetError(104, "the peer is gone"))
            return
        other.count_read()
        other.context.run(_receive, other.protocol, data)
        if self.is_full and self.get_write_buffer_size() <= self._high // 4 and not self.is_closing():
            self.is_full = False
            self._read_while_full = 0
            self.context.run(self.protocol.resume_writing)
        self._finish_closing()
        self.schedule()

    def count_read(self) -> None:
        """Check that a server stops reading requests from a peer that does not read the responses."""
        if self.is_full and self.owner == "server":
            self._read_while_full += 1
            if self._read_while_full > MAX_READS_WHILE_FULL:
                self.network.broken.append(f"{self} goes on reading although its responses are not read")

    def hang_up(self) -> None:
        """Receive the end of the stream from the other end."""
        if not self.dead and not self.context.run(self.protocol.eof_received):
            self.close()


def _receive(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Pass received bytes to a protocol, as event loops do."""
    protocol.get_buffer(len(data))[: len(data)] = data  # type: ignore[index]  # typed as any buffer
    protocol.buffer_updated(len(data))


class Listener:
    """The return value of `create_server`."""

    def __init__(self, network: Network, factory: Callable[[], Any], host: str, port: int) -> None:
        self.network = network
        self.factory = factory
        self.host = host
        self.port = port
        self.sockets = (self,)
        self.context = copy_context()

    def getsockname(self) -> tuple[str, int]:
        return self.host, self.port

    async def start_serving(self) -> None:
        """Do nothing: it listens from the start."""

    def is_serving(self) -> bool:
        return self.network.listeners.get((self.host, self.port)) is self

    def close(self) -> None:
        if self.is_serving():
            del self.network.listeners[self.host, self.port]

    def close_clients(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


class Network:
    """
    All listeners and connections of one world.

    Args:
        loop: The world's loop.
        rng: The source of all random choices.
        tap: Called with everything that is written, before it is split into pieces.
        occurred: How often each event of interest occurred.

    Attributes:
        kernel: Bytes that the kernel buffers before a transport does.
        write_buffer: Bytes that a transport buffers before it pauses its protocol's writing.
        max_backlog: Bytes that servers buffer for a peer before they disconnect it.
        broken: Promises that were broken.
    """

    def __init__(self, loop: SimulatedLoop, rng: random.Random, tap: Tap, occurred: Counter[str]) -> None:
        self.loop = loop
        self.rng = rng
        self.tap = tap
        self.occurred = occurred
        self.kernel, self.write_buffer = rng.choice(((0, 100), (200, 300), (200, 1000), (100_000, 1_000_000)))
        self.max_backlog = 0
        self.broken: list[str] = []
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.wires: dict[Wire, None] = {}
        self.unreachable: dict[str, None] = {}  # host -> connecting hangs
        self.latency = 0.001
        self.calm = False
        self._ports = 50_000

    def later(self, callback: Callable[..., object], *arguments: object, slowly: bool = False) -> asyncio.TimerHandle:
        """Call something after the network's latency."""
        delay = (SLOW_DELAY if slowly else self.latency) * (1 + self.rng.random())
        if not self.calm and self.rng.random() < 0.02:
            delay *= 200
        return self.loop.call_later(delay, callback, *arguments)

    def cut(self, data: bytes) -> list[bytes]:
        """Split what is written into the pieces in which it arrives."""
        pieces = []
        while data:
            size = self.rng.choice((1, 5, 12, 30, 200, 4096, 65536)) if not self.calm else 65536
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    async def open_socket(self, address: SocketAddress, heartbeat: float | None) -> tuple[str, int]:
        """Return an address in place of a socket; :meth:`connect` makes the connection."""
        host, port = address[1]
        return host, port

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> Listener:
        if (host, port) in self.listeners:
            raise OSError(98, f"{host}:{port} is in use")
        listener = self.listeners[host, port] = Listener(self, factory, host, port)
        return listener

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Wire, Any]:
        await self.wait()
        if host in self.unreachable:
            await self.loop.create_future()  # until the caller times out
        listener = self.listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, f"nothing listens at {host}:{port}")
        self._ports += 1
        here, there = f"{home.get()}:{self._ports}", f"{host}:{port}"
        protocol = factory()
        client = Wire(self, protocol, here, there, copy_context())
        server = Wire(self, listener.factory(), there, here, listener.context)
        client.other, server.other = server, client
        for wire in (client, server):
            self.wires[wire] = None
            wire.context.run(wire.protocol.connection_made, wire)
        try:
            await self.wait()
        except asyncio.CancelledError:
            client.abort()
            raise
        if client.dead:
            raise ConnectionResetError(104, f"{there} closed the connection immediately")
        return client, protocol

    async def wait(self) -> None:
        done = self.loop.create_future()
        timer = self.later(done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()

    # Faults.

    def reset(self, wire: Wire) -> None:
        """Reset a connection; each end is notified after its own delay."""
        for end in (wire, wire.other):
            if end is not None:
                self.later(end.die, ConnectionResetError(104, "the wire was cut"))

    def release(self, wire: Wire) -> None:
        """Deliver what was held."""
        wire.held = False
        wire.schedule()
