"""Whatever peers send in whatever order, the broker does not raise, and its data stays consistent."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.protocol.packets import PacketType
from tests.support.broker import TestPeer, World, check_books
from tests.support.wire import packet

pytestmark = pytest.mark.untraced

P = PacketType
PEERS = 3
TERMINAL = {P.WORK_COMPLETE, P.WORK_FAIL, P.WORK_EXCEPTION}

functions = st.sampled_from([b"f", b"g"])
uniques = st.sampled_from([b"", b"-", b"u", b"v"])
workloads = st.sampled_from([b"", b"w", b"w\0x"])
handles = st.integers(1, 8).map(lambda n: b"H:test:%d" % n)
foreground = st.sampled_from([P.SUBMIT_JOB, P.SUBMIT_JOB_HIGH, P.SUBMIT_JOB_LOW])
background = st.sampled_from([P.SUBMIT_JOB_BG, P.SUBMIT_JOB_HIGH_BG, P.SUBMIT_JOB_LOW_BG])
epochs = st.integers(999_990, 1_000_030).map(lambda n: b"%d" % n)

clients = st.one_of(
    st.builds(packet, foreground | background, functions, uniques, workloads),
    st.builds(packet, st.just(P.SUBMIT_JOB_EPOCH), functions, uniques, epochs, workloads),
    st.builds(packet, st.just(P.GET_STATUS), handles),
    st.builds(packet, st.just(P.GET_STATUS_UNIQUE), uniques),
    st.just(packet(P.OPTION_REQ, b"exceptions")),
    st.builds(lambda text: text + b"\r\n", st.builds(b"cancel job %b".__mod__, handles)),
    st.sampled_from([b"drop function f\n", b"create function g\n", b"maxqueue f 3\n", b"maxqueue f 0\n"]),
)
workers = st.one_of(
    st.builds(packet, st.sampled_from([P.CAN_DO, P.CAN_DO, P.CANT_DO]), functions),
    st.builds(packet, st.just(P.CAN_DO_TIMEOUT), functions, st.sampled_from([b"0", b"3000", b"8000"])),
    st.builds(packet, st.sampled_from([P.GRAB_JOB, P.GRAB_JOB_UNIQ, P.GRAB_JOB_ALL, P.PRE_SLEEP, P.RESET_ABILITIES])),
    st.builds(packet, st.sampled_from([P.WORK_COMPLETE, P.WORK_EXCEPTION, P.WORK_DATA]), handles, workloads),
    st.builds(packet, st.just(P.WORK_STATUS), handles, st.just(b"1"), st.just(b"2")),
    st.builds(packet, st.just(P.WORK_FAIL), handles),
)


class Report(NamedTuple):
    """A packet of a worker for one of its jobs."""

    kind: PacketType
    which: int


class Cancel(NamedTuple):
    """An administrator cancels one of the jobs."""

    which: int


LEAVE, WAIT = "leave", "wait"
Step = bytes | str | Report | Cancel
submits = st.builds(packet, foreground, functions, uniques, workloads)
grabs = st.sampled_from([packet(P.CAN_DO, b"f"), packet(P.GRAB_JOB), packet(P.GRAB_JOB_UNIQ), packet(P.PRE_SLEEP)])
cancels = st.builds(Cancel, st.integers(0, 5))
reports = st.builds(
    Report,
    st.sampled_from([P.WORK_COMPLETE, P.WORK_COMPLETE, P.WORK_FAIL, P.WORK_EXCEPTION, P.WORK_DATA]),
    st.integers(0, 3),
)
others = st.sampled_from([LEAVE, LEAVE, WAIT])
# Short lists cover little: losing a job takes five steps, and joining it before takes as many.
steps = st.lists(
    st.tuples(st.integers(0, PEERS - 1), st.one_of(submits, grabs, grabs, reports, cancels, others, clients, workers)),
    min_size=30,
    max_size=80,
)


class Ledger:
    """Tracks a client's packets: one terminal packet for each foreground submission, none for others."""

    def __init__(self) -> None:
        self.pending: Counter[bytes] = Counter()

    def record(self, requests: bytes, peer: TestPeer) -> None:
        kind = int.from_bytes(requests[4:8], "big") if requests[:1] == b"\0" else -1
        for reply, body in peer.packets():
            if reply is P.JOB_CREATED and kind in (P.SUBMIT_JOB, P.SUBMIT_JOB_HIGH, P.SUBMIT_JOB_LOW):
                self.pending[body] += 1
            elif reply in TERMINAL:
                handle = body.partition(b"\0")[0]
                assert self.pending[handle] > 0, f"{handle!r} ended twice"
                self.pending[handle] -= 1


class Scenario:
    """Runs steps on a broker, with a ledger for each peer."""

    def __init__(self) -> None:
        self.world = World(job_retries=2)
        self.admin = self.world.peer()
        self.peers = [self.world.peer() for _ in range(PEERS)]
        self.ledgers = [Ledger() for _ in range(PEERS)]
        for peer in self.peers[:2]:
            peer.send(P.CAN_DO, b"f")

    def step(self, number: int, what: Step) -> None:
        """Do one step, and check everything."""
        if what == LEAVE:
            self.peers[number].leave()
            self.peers[number], self.ledgers[number] = self.world.peer(), Ledger()
        elif what == WAIT:
            self.world.pass_time(2)
        elif isinstance(what, Report):
            self.report(self.peers[number], what)
        elif isinstance(what, Cancel):
            jobs = list(self.world.broker.queue.jobs)
            if jobs:
                assert self.admin.ask(b"cancel job " + jobs[what.which % len(jobs)]) == b"OK\r\n"
        else:
            assert isinstance(what, bytes)
            self.peers[number].feed(what)
            if what[:1] != b"\0":
                # The reply is text; packets to the clients of cancelled jobs precede it.
                self.peers[number].inside.outgoing.pop()
            self.ledgers[number].record(what, self.peers[number])
        self.check()

    def report(self, peer: TestPeer, what: Report) -> None:
        """Send a packet from a worker for one of its jobs, if it has any."""
        held = list(peer.inside.running_jobs)
        if held:
            arguments = (held[what.which % len(held)], b"data")
            peer.send(what.kind, *arguments[: 1 if what.kind is P.WORK_FAIL else 2])

    def finish(self) -> None:
        """Complete the remaining jobs, and check that every client got its terminal packets."""
        self.world.pass_time(1000)
        for peer in self.peers:
            peer.send(P.RESET_ABILITIES)
        able = self.world.peer()
        able.feed(packet(P.CAN_DO, b"f") + packet(P.CAN_DO, b"g"))
        while (handle := able.grab()) is not None:
            able.send(P.WORK_COMPLETE, handle, b"result")
        self.check()
        assert not any(+ledger.pending for ledger in self.ledgers), "a client did not get a terminal packet"
        assert not self.world.broker.queue.jobs

    def check(self) -> None:
        """Record new packets, and check that the broker's data is consistent."""
        for peer, ledger in zip(self.peers, self.ledgers, strict=True):
            ledger.record(b"", peer)
        check_books(self.world)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_jobs_end_once_and_the_data_stays_consistent(steps: list[tuple[int, Step]]) -> None:
    scenario = Scenario()
    for number, what in steps:
        scenario.step(number, what)
    scenario.finish()


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(clients, workers, st.binary(max_size=40))), max_size=30))
def test_no_bytes_make_the_broker_raise(chunks: list[tuple[int, bytes]]) -> None:
    world = World(max_packet_size=1000)
    peers = [world.peer() for _ in range(3)]
    for number, data in chunks:
        peers[number].feed(data)
        for peer in world.broker.take_ready():
            peer.take_outgoing()
            if peer.failure is not None:
                world.broker.remove_peer(peer, world.now)
                peers = [p if p.inside is not peer else world.peer() for p in peers]
        check_books(world)


@given(st.lists(st.one_of(clients, workers), max_size=20), st.data())
def test_replies_do_not_depend_on_how_the_bytes_arrive(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    whole, pieces = World().peer(), World().peer()
    whole.feed(stream)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        pieces.feed(stream[:size])
        stream = stream[size:]
    assert pieces.received() == whole.received()


@given(st.lists(st.sampled_from(["echo", "submit", "refused", "status", "grab"]), max_size=50))
def test_direct_replies_keep_the_order_of_the_requests(what: list[str]) -> None:
    requests = {
        "echo": (packet(P.ECHO_REQ, b"x"), P.ECHO_RES),
        "submit": (packet(P.SUBMIT_JOB, b"f", b"", b"w"), P.JOB_CREATED),
        "refused": (packet(P.SUBMIT_JOB, b"f", b"u" * 65, b""), P.ERROR),
        "status": (packet(P.GET_STATUS, b"H:test:1"), P.STATUS_RES),
        "grab": (packet(P.GRAB_JOB), P.NO_JOB),
    }
    peer = World().peer()
    peer.feed(b"".join(requests[name][0] for name in what))
    assert peer.kinds() == [requests[name][1] for name in what]
