"""The faults of a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from geartrain.protocol.packets import HEADER, REQUEST, RESPONSE, PacketType, encode
from tests.simulation.servers import broker_of

if TYPE_CHECKING:
    from tests.simulation.network import Wire
    from tests.simulation.world import World

HEARTBEAT = 5.0
CALM_AFTER = 60.0  # seconds of faults

_UNKNOWN_HANDLE: Final = b"H:unknown:1"

# Bytes that every client and worker must reject, in any state.
_INVALID_RESPONSES: Final = (
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"OK\n",
    encode(PacketType.WORK_COMPLETE, _UNKNOWN_HANDLE, b"result"),  # with the magic of the other direction
    HEADER.pack(RESPONSE, PacketType.WORK_DATA, 0xFFFFFFFF) + b"endless",
    HEADER.pack(RESPONSE, PacketType.JOB_ASSIGN, 3) + b"all",
    encode(PacketType.STATUS_RES, _UNKNOWN_HANDLE, b"1", b"1", b"0", b"0", magic=RESPONSE) + b"???",
    encode(PacketType.ECHO_RES, b"never sent by a client", magic=RESPONSE) + b"???",
    encode(PacketType.JOB_CREATED, _UNKNOWN_HANDLE, magic=RESPONSE) + b"garbage",
)

# Packets for a job that does not exist, or no longer exists. They must have no effect.
_LATE: Final = (
    (PacketType.WORK_COMPLETE, (b"too late",)),
    (PacketType.WORK_DATA, (b"too late",)),
    (PacketType.WORK_WARNING, (b"too late",)),
    (PacketType.WORK_EXCEPTION, (b"too late",)),
    (PacketType.WORK_STATUS, (b"1", b"2")),
    (PacketType.WORK_FAIL, ()),
)

# Bytes for which a job server closes the connection.
_INVALID_REQUESTS: Final = (
    b"\0\0\0\0 what is this",
    HEADER.pack(REQUEST, PacketType.SUBMIT_JOB, 0xFFFFFFFF),
)
# Requests that it answers with ERROR. On a client's connection that would be taken for the response to another request.
_REFUSED_REQUESTS: Final = (
    encode(PacketType.NOOP, magic=RESPONSE),
    encode(PacketType.WORK_COMPLETE, _UNKNOWN_HANDLE, b""),
)


class Faults:
    """Injects faults for a limited time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.network = world.network

    async def run(self) -> None:
        """Inject one fault after another."""
        faults = (
            self._reset_something,
            self._silence_something,
            self._crash_server,
            self.restart_servers,
            self._cancel_worker,
            self._kill_worker,
            self._make_unreachable,
            self._change_servers,
            self._disconnect,
            self._pause_something,
            self._send_late_packet,
            self._send_invalid_response,
            self._send_invalid_request,
        )
        await self._inject_faults(faults + 2 * self._gentle, 0.4)

    async def run_gently(self) -> None:
        """Inject only faults that lose no connection, so that the end of each job is known."""
        await self._inject_faults(self._gentle, 0.2)

    @property
    def _gentle(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return self._fill_queues, self._forget_jobs, self._slow_something_down

    async def _inject_faults(self, faults: Sequence[Callable[[], Awaitable[None]]], rate: float) -> None:
        while self.world.loop.time() < CALM_AFTER:
            await asyncio.sleep(self.rng.expovariate(rate))
            fault = self.rng.choice(faults)
            self.world.occurred[f"fault: {fault.__name__.strip('_')}"] += 1
            await fault()

    # The network.

    def _pick(self, wires: Sequence[Wire] | None = None) -> Wire | None:
        """Return one end of some connection."""
        wires = list(self.network.wires) if wires is None else wires
        return self.rng.choice(wires) if wires else None

    async def _reset_something(self) -> None:
        if (wire := self._pick()) is not None:
            self.world.note(f"cut: {wire}")
            self.network.reset(wire)

    async def _silence_something(self) -> None:
        # Only clients monitor their connections all the time, so half of these are theirs.
        ends = list(self.network.wires) if self.rng.random() < 0.5 else self._from_clients()
        if (wire := self._pick(ends)) is not None:
            self.world.note(f"silence: {wire}")
            wire.silenced = True
            for end in (wire, wire.other):
                if end is not None:
                    self.world.silent_since.setdefault(end, self.world.loop.time())

    async def _pause_something(self) -> None:
        """Stop one direction for a while, as a stopped process or a full buffer does."""
        if (wire := self._pick()) is not None:
            seconds = self.rng.random() * 2 * HEARTBEAT
            self.world.note(f"pause for {seconds:.1f} s: {wire}")
            wire.held = True
            self.world.loop.call_later(seconds, self.network.release, wire)

    async def _slow_something_down(self) -> None:
        """Slow one direction down to a few bytes at a time for a while, as a bad line or a slow reader does."""
        if (wire := self._pick()) is not None:
            self.world.note(f"slow: {wire}")
            wire.slow = True
            self.world.loop.call_later(self.rng.random() * 3 * HEARTBEAT, setattr, wire, "slow", False)

    async def _make_unreachable(self) -> None:
        name = self.rng.choice(list(self.world.servers))
        self.world.note(f"{name} cannot be reached for a while")
        self.network.unreachable[name] = None
        self.world.loop.call_later(self.rng.random() * 10, self.network.unreachable.pop, name, None)

    # Servers and workers.

    async def _crash_server(self) -> None:
        name = self.rng.choice(list(self.world.servers))
        server = self.world.servers[name]
        if server is not None:
            self.world.note(f"server {name} crashes")
            self.world.servers[name] = None
            await server.aclose()

    async def restart_servers(self) -> None:
        """Restart the servers that have crashed; their handles start from 1 again."""
        for name, server in self.world.servers.items():
            if server is None:
                await self.world.start_server(name)

    async def _fill_queues(self) -> None:
        """Limit the queues of all servers to a few jobs for a while."""
        self.world.limit_queues(self.rng.randint(1, 3))
        self.world.loop.call_later(self.rng.random() * 5, self.world.limit_queues, self.world.queue_limit)

    async def _forget_jobs(self) -> None:
        """Make a server silently forget jobs that clients wait for."""
        servers = [server for server in self.world.servers.values() if server is not None]
        if not servers:
            return
        server = self.rng.choice(servers)
        jobs = [job for job in broker_of(server).queue.jobs.values() if job.clients and not job.background]
        for job in self.rng.sample(jobs, min(len(jobs), self.rng.choice((1, 3, 100)))):
            self.world.forget(server, job)

    async def _cancel_worker(self) -> None:
        await self._end_worker(self.rng.choice(list(self.world.workers)))

    async def _kill_worker(self) -> None:
        """Kill a worker as the kernel does: its connections are reset, and its functions stop."""
        home = self.rng.choice(list(self.world.workers))
        for wire in list(self.network.wires):
            if wire.local.startswith(f"{home}:"):
                wire.abort()
        await self._end_worker(home)

    async def _end_worker(self, home: str) -> None:
        self.world.note(f"{home} is ended")
        worker = self.world.workers.pop(home)
        worker.cancel()
        await asyncio.wait((worker,))
        self.world.start_worker()

    # Calls of users to their client.

    async def _change_servers(self) -> None:
        world = self.world
        user = self.rng.choice(world.users)
        names = [name for name in world.servers if self.rng.random() < 0.7] or list(world.servers)
        world.note(f"client {user.number} is given {names}")
        user.client.set_job_servers(names)

    async def _disconnect(self) -> None:
        if self.rng.random() < 0.2:
            user = self.rng.choice(self.world.users)
            self.world.note(f"client {user.number} disconnects")
            self.world.disconnects += 1
            await user.client.disconnect_all()

    # Invalid and late packets. A connection writes whole packets in each turn, so another one can be inserted here.

    def _from_clients(self) -> list[Wire]:
        return [wire for wire in self.network.wires if wire.owner == "client" and wire.other is not None]

    def _from_servers(self) -> list[Wire]:
        return [wire for wire in self.network.wires if wire.local.endswith(":4730") and wire.other is not None]

    async def _send_late_packet(self) -> None:
        """Send a packet from a server for a job that has ended, or never existed."""
        if (wire := self._pick(self._from_servers())) is not None:
            kind, rest = self.rng.choice(_LATE)
            handle = self.rng.choice((_UNKNOWN_HANDLE, *self.world.traffic.ended(wire)))
            self.world.note(f"late: {kind.name} {handle!r} {wire}")
            wire.inject(encode(kind, handle, *rest, magic=RESPONSE))

    async def _send_invalid_response(self) -> None:
        """Break the protocol from a server, preferably where a direct reply is expected."""
        wires = self._from_servers()
        if (
            wire := self._pick([wire for wire in wires if self.world.traffic.has_pending_reply(wire)] or wires)
        ) is not None:
            response = self.rng.choice(_INVALID_RESPONSES)
            self.world.note(f"invalid response: {response!r} {wire}")
            self.world.violations += 1
            wire.inject(response)

    async def _send_invalid_request(self) -> None:
        """Break the protocol towards a server, or send it a packet for a job that does not exist."""
        to_servers = [wire for wire in self.network.wires if wire.remote.endswith(":4730")]
        if (wire := self._pick(to_servers)) is not None:
            is_client = wire.local.startswith("client:")
            request = self.rng.choice(_INVALID_REQUESTS if is_client else _INVALID_REQUESTS + _REFUSED_REQUESTS)
            self.world.note(f"invalid request: {request!r} {wire}")
            self.world.violations += 1  # a server may send an unexpected ERROR before it disconnects a client
            wire.inject(request)
