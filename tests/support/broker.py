"""A broker without sockets, and peers that record what it sends."""

from __future__ import annotations

from collections import Counter
from typing import Any

from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import RESPONSE, PacketType
from geartrain.protocol.server import dispatch
from geartrain.protocol.server.broker import Broker
from geartrain.protocol.server.job_queue import _CLIENT_COST, _FUNCTION_COST, _WORKER_COST, JOB_COST, JobState
from geartrain.protocol.server.peer import Peer
from tests.support.wire import packet

Packet = tuple[PacketType, bytes]


class World:
    """
    One broker, its peers, and a clock that only advances when a test says so.

    Attributes:
        now: The present time.
        peers: All that were ever connected.
    """

    def __init__(self, **options: Any) -> None:
        self.broker = Broker(handle_prefix=b"H:test", **options)
        self.now = 1_000_000.0
        self.peers: list[TestPeer] = []

    def peer(self) -> TestPeer:
        """Connect one more peer."""
        self.peers.append(TestPeer(self))
        return self.peers[-1]

    def pass_time(self, seconds: float) -> None:
        """Advance the clock, and run the broker's timers that become due."""
        end = self.now + seconds
        while (deadline := self.broker.next_deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.broker.tick(self.now)
        self.now = end


class TestPeer:
    """A peer of a broker, as seen from outside."""

    __test__ = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.inside: Peer = world.broker.add_peer("127.0.0.1", 7)

    def feed(self, data: bytes) -> None:
        """Send bytes, and let the broker process all of them."""
        dispatch.receive(self.world.broker, self.inside, data, self.world.now)

    def send(self, kind: int, *arguments: bytes) -> None:
        """Send one packet."""
        self.feed(packet(kind, *arguments))

    def received(self) -> bytes:
        """Return what the broker has sent since the last time."""
        return b"".join(self.inside.take_outgoing())

    def packets(self) -> list[Packet]:
        """Return the packets that the broker has sent since the last time."""
        decoder = Decoder(RESPONSE)
        runs = decoder.feed(self.received())
        assert decoder.failure is None
        assert not decoder.held
        return [(PacketType(kind), body) for kind, bodies in runs for body in bodies]

    def kinds(self) -> list[PacketType]:
        """Return the types of the packets that the broker has sent since the last time."""
        return [kind for kind, _ in self.packets()]

    def submit(self, function: bytes, unique: bytes = b"", workload: bytes = b"", kind: int = 7) -> bytes:
        """Submit a job, and return its handle."""
        self.send(kind, function, unique, workload)
        return self.one(PacketType.JOB_CREATED)

    def one(self, kind: PacketType) -> bytes:
        """Return the body of the only packet received, which must have this type."""
        packets = self.packets()
        assert [k for k, _ in packets] == [kind]
        return packets[0][1]

    def grab(self) -> bytes | None:
        """Take a job, and return its handle."""
        self.send(PacketType.GRAB_JOB)
        packets = self.packets()
        assert len(packets) == 1
        kind, body = packets[0]
        if kind is PacketType.NO_JOB:
            return None
        assert kind is PacketType.JOB_ASSIGN
        return body.partition(b"\0")[0]

    def ask(self, line: bytes) -> bytes:
        """Send a line of text, and return the answer."""
        self.feed(line + b"\r\n")
        return self.received()

    def leave(self) -> None:
        """Lose the connection."""
        self.world.broker.remove_peer(self.inside, self.world.now)


def check_books(world: World) -> None:
    """Check that every job is exactly where its state says, and that all counters add up."""
    queue = world.broker.queue
    jobs = queue.jobs.values()
    for function in queue.functions.values():
        own = [job for job in jobs if job.function is function]
        states = Counter(job.state for job in own)
        queued = [job for jobs in function.queues for job in jobs]
        assert sorted(job.handle for job in queued) == sorted(j.handle for j in own if j.state is JobState.QUEUED)
        assert function.running_count == states[JobState.RUNNING]
        assert sorted(j.handle for j in function.delayed) == sorted(
            j.handle for j in own if j.state is JobState.DELAYED
        )
        assert set(function.sleepers) <= set(function.workers)
        sleeping = [peer for peer in function.workers if peer.asleep]
        assert all(peer in function.sleepers for peer in sleeping)
        assert not (function.has_runnable_jobs and sleeping), "a worker sleeps although there is a job for it"
    held = {job.handle: peer for peer in world.broker.peers for job in peer.running_jobs.values()}
    assert held == {job.handle: job.worker for job in jobs if job.state is JobState.RUNNING}
    for job in jobs:
        assert job.state is not JobState.ENDED
        assert queue.functions.get(job.function.name) is job.function, "a job of a function that was dropped"
        assert job.is_wanted or job.state is JobState.RUNNING, "an unwanted job must be dropped"
        assert all(job in client.awaited_jobs for client in job.clients)
        assert all(client in world.broker.peers for client in job.clients)
    assert queue.size == (
        sum(_FUNCTION_COST + len(name) + _WORKER_COST * len(f.workers) for name, f in queue.functions.items())
        + sum(JOB_COST + len(job.workload) + _CLIENT_COST * sum(job.clients.values()) for job in jobs)
    )
    for peer in world.broker.peers:
        assert all(peer in job.clients for job in peer.awaited_jobs)
        assert all(peer in ability.function.workers for ability in peer.abilities.values())
