"""A proxy on the wire between clients or workers and a job server, which does to the wire what a test orders."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 64 * 1024
BY_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: the socket's close is a RST


class Way(enum.Flag):
    """Where bytes go; a client is whoever has connected to the proxy, a worker too."""

    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()
    BOTH = TO_SERVER | TO_CLIENT


class Lane:
    """
    What befalls the bytes that go one way.

    Attributes:
        flowing: Cleared while nothing passes, not even the end of a connection.
        delay: Seconds for which each piece is held back, with all that is behind it.
        split: Whether each byte is sent for itself.
        passed: How many bytes have passed.
        cut_at: When so many have passed, all connections are cut; ``None`` for never.
        record: Receives a copy of all bytes that pass, if set.
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
    """One connection through the proxy: two sockets, of which the second is missing where nothing is forwarded."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.cut = False  # both sides were told that it is over; what they still say is dropped
        self.by_reset = True  # how it ends, unless both sides have ended it

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.client, self.server] if self.server is not None else [self.client]

    def shut(self) -> None:
        """Tell both sides that nothing more comes, by a FIN."""
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
    Passes bytes between who connects to its ``address``, on a free port, and ``target``.

    What it is told about the wire holds for the connections that there are and for new ones, until it is told
    otherwise; what it does to connections, it does to those that there are. A peer's FIN is passed on as a FIN, and its
    RST as a RST. If ``target`` cannot be reached, the new connection is reset.

    Attributes:
        target: ``host:port`` of the job server; new connections go to the one that is named here at that time.
        address: Where the proxy listens. The port stays its own while connections are refused.
        accepted: How many connections it has accepted.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.accepted = 0
        self._forwards = True
        self._lanes = {way: Lane() for way in (Way.TO_SERVER, Way.TO_CLIENT)}
        self._carriages: dict[asyncio.Task[None], Carriage] = {}
        self._listener: socket.socket | None = None
        # Two sockets may be bound to one port as long as one of them at most listens: this one keeps the port.
        self._reserved = _bound("127.0.0.1:0")
        host, port = self._reserved.getsockname()
        self.address = f"{host}:{port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._carriages)

    def passed(self, way: Way) -> int:
        """Return how many bytes have passed this way."""
        return sum(self._lanes[one].passed for one in way)

    def record(self, way: Way) -> bytearray:
        """Return a buffer that receives a copy of all bytes which pass this one way from now on."""
        lane = self._lanes[way]
        lane.record = bytearray()
        return lane.record

    # New connections.

    async def accept(self) -> None:
        """Accept connections and forward them, as from the start."""
        self._forwards = True
        self._listen()

    async def refuse(self) -> None:
        """Refuse new connections; those that there are stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def play_dead(self) -> None:
        """Accept new connections, and then neither read from them nor write to them; those that there are stay."""
        self._forwards = False
        self._listen()

    # The connections that there are.

    def cut(self) -> None:
        """End all connections in an orderly way: both sides read all that has passed, and then EOF."""
        for carriage in self._carriages.values():
            carriage.shut()

    def cut_after(self, way: Way, size: int) -> None:
        """Cut all connections once so many more bytes have passed this way, and not one more."""
        for one in way:
            self._lanes[one].cut_at = self._lanes[one].passed + size

    async def reset(self) -> None:
        """End all connections by a RST: both sides may lose what has passed before."""
        await _cancel(*self._carriages)

    # The wire.

    def stall(self, way: Way = Way.BOTH) -> None:
        """Let nothing pass, not even the end of a connection; the sender's system buffers what it can."""
        for one in way:
            self._lanes[one].flowing.clear()

    def resume(self, way: Way = Way.BOTH) -> None:
        """Let pass what was held up, and all that follows."""
        for one in way:
            self._lanes[one].flowing.set()

    def delay(self, seconds: float, way: Way = Way.BOTH) -> None:
        """Hold each piece back for so long, and all that is behind it."""
        for one in way:
            self._lanes[one].delay = seconds

    def split(self, way: Way = Way.BOTH, *, on: bool = True) -> None:
        """Send each byte for itself; a receiver in this event loop reads each for itself."""
        for one in way:
            self._lanes[one].split = on

    async def heal(self) -> None:
        """Do everything as from the start."""
        self.resume()
        self.delay(0.0)
        self.split(on=False)
        for lane in self._lanes.values():
            lane.cut_at = None
        await self.accept()

    async def stop(self) -> None:
        """End all connections, and give the port back."""
        await self.refuse()
        await self.reset()
        self._reserved.close()

    # Inside.

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.address)
            self._listener.listen(128)
            # Not by sock_accept: asyncio 3.11 fails where it is cancelled in the turn in which somebody connects.
            asyncio.get_running_loop().add_reader(self._listener, self._take, self._listener)

    def _take(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return  # who had connected has gone
        client.setblocking(False)
        self.accepted += 1
        carriage = Carriage(client)
        task = asyncio.create_task(self._carry(carriage))
        self._carriages[task] = carriage
        # Not by the task itself, for one that is cancelled before its first turn does nothing at all.
        task.add_done_callback(lambda task: self._carriages.pop(task).close())

    async def _carry(self, carriage: Carriage) -> None:
        """Pass on all bytes of a connection until both sides have ended it, or one of them has gone."""
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
            pass  # the target cannot be reached, or one side has reset the connection: so is the other, now

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
        """Send as many of these bytes as may go at once, and return how many these were."""
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
            for _ in range(2):  # in the first turn the loop sees the byte, in the second the receiver has read it
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
    with contextlib.suppress(OSError):  # the other side may have reset it, or it was never connected
        sock.shutdown(socket.SHUT_WR)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
