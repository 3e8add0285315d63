"""A TCP proxy between clients or workers and a job server, which disturbs connections as the test requests."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 64 * 1024
BY_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close() sends a RST


class Way(enum.Flag):
    """The direction of bytes; every peer that connects to the proxy is its client, workers included."""

    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()
    BOTH = TO_SERVER | TO_CLIENT


class Lane:
    """
    The settings for one direction.

    Attributes:
        flowing: Cleared while nothing is forwarded, not even the end of a connection.
            delay: Seconds to delay each chunk and everything behind it.
            split: Whether each byte is sent separately.
            passed: The number of bytes forwarded.
            cut_at: Cut all connections after this many bytes; ``None`` for never.
            record: If set, receives a copy of all bytes forwarded.
    """

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay = 0.0
        self.split = False
        self.passed = 0
        self.cut_at: int | None = None
        self.record: bytearray | None = None


class Carriage:
    """One connection through the proxy: two sockets, or one if nothing is forwarded."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.cut = False  # both sides received a FIN; whatever they still send is dropped
        self.by_reset = True  # how it is closed, unless both sides have closed it

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.client, self.server] if self.server is not None else [self.client]

    def shut(self) -> None:
        """Send a FIN to both sides."""
        self.cut = True
        for sock in self.sockets:
            _finish(sock)

    def close(self) -> None:
        for sock in self.sockets:
            if self.by_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
            sock.close()


class Proxy:
    """
    Forwards bytes between connections to its ``address``, on a free port, and ``target``.

    Settings of a direction apply to existing and new connections until they are changed; cuts and resets apply to
    existing connections. A FIN is forwarded as a FIN, and a RST as a RST. If ``target`` cannot be reached, the new
    connection is reset.

    Attributes:
        target: ``host:port`` of the job server; a change applies to new connections.
            address: Where the proxy listens. It keeps the port while it refuses connections.
            accepted: The number of accepted connections.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.accepted = 0
        self._forwards = True
        self._lanes = {way: Lane() for way in (Way.TO_SERVER, Way.TO_CLIENT)}
        self._carriages: dict[asyncio.Task[None], Carriage] = {}
        self._listener: socket.socket | None = None
        # Two sockets can be bound to one port if at most one of them listens: this one reserves the port.
        self._reserved = _bound("127.0.0.1:0")
        host, port = self._reserved.getsockname()
        self.address = f"{host}:{port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._carriages)

    def passed(self, way: Way) -> int:
        """Return the number of bytes forwarded in this direction."""
        return sum(self._lanes[one].passed for one in way)

    def record(self, way: Way) -> bytearray:
        """Return a buffer that receives a copy of all bytes forwarded in this direction from now on."""
        lane = self._lanes[way]
        lane.record = bytearray()
        return lane.record

    # New connections.

    async def accept(self) -> None:
        """Accept connections and forward them again."""
        self._forwards = True
        self._listen()

    async def refuse(self) -> None:
        """Refuse new connections; existing ones stay open."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def play_dead(self) -> None:
        """Accept new connections but never read from or write to them; existing ones stay open."""
        self._forwards = False
        self._listen()

    # Existing connections.

    def cut(self) -> None:
        """Close all connections cleanly: both sides read everything that was forwarded, then EOF."""
        for carriage in self._carriages.values():
            carriage.shut()

    def cut_after(self, way: Way, size: int) -> None:
        """Cut all connections after exactly this many more bytes in this direction."""
        for one in way:
            self._lanes[one].cut_at = self._lanes[one].passed + size

    async def reset(self) -> None:
        """Reset all connections (RST): both sides may lose bytes that were forwarded."""
        await _cancel(*self._carriages)

    # Settings of a direction.

    def stall(self, way: Way = Way.BOTH) -> None:
        """Forward nothing, not even the end of a connection; the sender's kernel buffers what it can."""
        for one in way:
            self._lanes[one].flowing.clear()

    def resume(self, way: Way = Way.BOTH) -> None:
        """Forward everything that was held back, and continue."""
        for one in way:
            self._lanes[one].flowing.set()

    def delay(self, seconds: float, way: Way = Way.BOTH) -> None:
        """Delay each chunk by this many seconds, and everything behind it."""
        for one in way:
            self._lanes[one].delay = seconds

    def split(self, way: Way = Way.BOTH, *, on: bool = True) -> None:
        """Send each byte separately; a receiver in this event loop also reads them one by one."""
        for one in way:
            self._lanes[one].split = on

    async def heal(self) -> None:
        """Restore the initial settings."""
        self.resume()
        self.delay(0.0)
        self.split(on=False)
        for lane in self._lanes.values():
            lane.cut_at = None
        await self.accept()

    async def stop(self) -> None:
        """Close all connections, and release the port."""
        await self.refuse()
        await self.reset()
        self._reserved.close()

    # Forwarding.

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.address)
            self._listener.listen(128)
            # Not sock_accept: in asyncio 3.11 it fails if it is cancelled in the iteration in which a client connects.
            asyncio.get_running_loop().add_reader(self._listener, self._take, self._listener)

    def _take(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return  # the client has disconnected already
        client.setblocking(False)
        self.accepted += 1
        carriage = Carriage(client)
        task = asyncio.create_task(self._carry(carriage))
        self._carriages[task] = carriage
        # Not in the task itself, which does not run at all if it is cancelled before its first step.
        task.add_done_callback(lambda task: self._carriages.pop(task).close())

    async def _carry(self, carriage: Carriage) -> None:
        """Forward all bytes of a connection until both sides have closed it, or one of them has reset it."""
        loop = asyncio.get_running_loop()
        try:
            if not self._forwards:
                await loop.create_future()
            carriage.server = _make_socket()
            await loop.sock_connect(carriage.server, _parse(self.target))
            for sock in carriage.sockets:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self._carry_one_way(carriage, carriage.client, carriage.server, Way.TO_SERVER))
                lanes.create_task(self._carry_one_way(carriage, carriage.server, carriage.client, Way.TO_CLIENT))
            carriage.by_reset = False
        except* OSError:
            pass  # the target is unreachable, or one side has reset the connection: the other side is reset now

    async def _carry_one_way(self, carriage: Carriage, source: socket.socket, sink: socket.socket, way: Way) -> None:
        loop, lane = asyncio.get_running_loop(), self._lanes[way]
        while True:
            data = await loop.sock_recv(source, CHUNK)
            if not carriage.cut:
                await lane.flowing.wait()
                await asyncio.sleep(lane.delay)
            if not data:
                break
            while data and not carriage.cut:
                data = data[await self._pass(lane, sink, data) :]
        if not carriage.cut:
            _finish(sink)

    async def _pass(self, lane: Lane, sink: socket.socket, data: bytes) -> int:
        """Send as many of these bytes as possible now, and return their number."""
        loop = asyncio.get_running_loop()
        size = 1 if lane.split else len(data)
        if lane.cut_at is not None:
            size = min(size, lane.cut_at - lane.passed)
        await loop.sock_sendall(sink, data[:size])
        lane.passed += size
        if lane.record is not None:
            lane.record += data[:size]
        if lane.cut_at == lane.passed:
            lane.cut_at = None
            self.cut()
        elif lane.split:
            for _ in range(
                2
            ):  # the loop sees the byte in the first iteration, and the receiver has read it in the second
                await asyncio.sleep(0)
        return size

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _make_socket() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def _bound(address: str) -> socket.socket:
    sock = _make_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(_parse(address))
    return sock


def _finish(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have been reset, or never connected
        sock.shutdown(socket.SHUT_WR)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
