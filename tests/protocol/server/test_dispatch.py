"""
No call of the broker does more than a bounded amount of work, however many jobs, clients or workers are involved.

The tests count function calls, because durations depend on the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from geartrain.protocol.packets import PacketType
from geartrain.protocol.server import broker as broker_module
from geartrain.protocol.server import dispatch
from geartrain.protocol.server.broker import MAX_TURN_WORK
from tests.support.broker import TestPeer, World, check_books
from tests.support.wire import packet

P = PacketType
MANY = 5_000


def count_calls(function: Callable[[], object]) -> int:
    """Call a function, and return the number of calls that it makes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def in_turns(world: World, event: Callable[[], object], peer: TestPeer | None = None) -> dict[TestPeer, list[bytes]]:
    """
    Cause an event, and call the broker until it is handled; check that each call does only a part of the work.

    Between the calls another peer gets replies. Returns what was sent to each peer, call by call.
    """
    broker, other = world.broker, world.peer()
    received: dict[TestPeer, list[bytes]] = {}
    calls: list[int] = []
    do: Callable[[], object] | None = event
    while do is not None:
        calls.append(count_calls(do))
        for each in world.peers:
            if each.inside in broker.peers and each.inside.outgoing:
                received.setdefault(each, []).append(each.received())
        other.send(P.ECHO_REQ, b"other")
        assert other.packets() == [(P.ECHO_RES, b"other")]
        due = broker.next_deadline
        if peer is not None and peer.inside.pending_requests:
            do = lambda: dispatch.resume(broker, peer.inside, world.now)  # noqa: E731
        elif broker.unfinished_work:
            do = lambda: broker.continue_work(world.now)  # noqa: E731
        else:
            do = (lambda: broker.tick(world.now)) if due is not None and due <= world.now else None
    assert max(calls) < sum(calls) / 4, f"one of {len(calls)} calls makes {max(calls)} of {sum(calls)} function calls"
    check_books(world)
    return received


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the work of a turn to a tenth, so that a tenth of the jobs is enough."""
    for module in (broker_module, dispatch):
        monkeypatch.setattr(module, "MAX_TURN_WORK", MAX_TURN_WORK // 10)
    monkeypatch.setattr(broker_module, "_MAX_DUE", broker_module._MAX_DUE // 10)


@pytest.fixture
def world() -> World:
    return World()


def submit_many(world: World, kind: PacketType, *, number: int = MANY) -> TestPeer:
    """Submit jobs ``0``, ``1`` ..., each with its number as the unique."""
    client = world.peer()
    due = (b"%d" % (world.now + 10),) if kind is P.SUBMIT_JOB_EPOCH else ()
    for first in range(0, number, 100):
        client.feed(b"".join(packet(kind, b"f", b"%d" % n, *due, b"") for n in range(first, first + 100)))
        client.received()
    return client


def grab_all(world: World, *, able: bytes = packet(P.CAN_DO, b"f")) -> tuple[TestPeer, list[bytes]]:
    """Grab all jobs with a new worker, and return it and the uniques."""
    worker = world.peer()
    worker.feed(able)
    uniques: list[bytes] = []
    while True:
        worker.feed(packet(P.GRAB_JOB_UNIQ) * 100)
        packets = worker.packets()
        uniques += [body.split(b"\0")[2] for kind, body in packets if kind is P.JOB_ASSIGN_UNIQ]
        if packets[-1][0] is P.NO_JOB:
            return worker, uniques


def in_order(number: int = MANY) -> list[bytes]:
    return [b"%d" % n for n in range(number)]


def test_delayed_jobs_that_are_due_at_once(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_EPOCH)
    sleeper = world.peer()
    sleeper.feed(packet(P.CAN_DO, b"f") + packet(P.PRE_SLEEP))
    world.now += 10
    received = in_turns(world, lambda: world.broker.tick(world.now))
    assert received == {sleeper: [packet(P.NOOP, magic=0x00524553)]}
    assert grab_all(world)[1] == in_order()


def test_a_worker_can_grab_the_first_delayed_job_before_the_last_one_is_runnable(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_EPOCH)
    world.now += 10
    world.broker.tick(world.now)
    assert 0 < len(grab_all(world)[1]) < MANY


def test_timeouts_of_many_jobs(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_BG)
    worker, _ = grab_all(world, able=packet(P.CAN_DO_TIMEOUT, b"f", b"1000"))
    world.now += 1
    in_turns(world, lambda: world.broker.tick(world.now))
    assert not worker.inside.running_jobs
    assert grab_all(world)[1] == in_order()


def test_a_worker_with_many_jobs_is_lost(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_BG)
    worker, _ = grab_all(world)
    in_turns(world, worker.leave)
    assert grab_all(world)[1] == in_order()[::-1]


@pytest.mark.parametrize("request_", [packet(P.RESET_ABILITIES), packet(P.CANT_DO, b"f")], ids=["RESET", "CANT_DO"])
def test_a_worker_with_many_jobs_resets_its_abilities(world: World, request_: bytes) -> None:
    """Its next request is processed when it no longer holds any of them."""
    submit_many(world, P.SUBMIT_JOB_BG)
    worker, _ = grab_all(world)
    late = packet(P.WORK_COMPLETE, b"H:test:1", b"late")
    received = in_turns(world, lambda: worker.feed(request_ + late), worker)
    assert [b"JOB_NOT_FOUND" in data for data in received[worker]] == [True]
    assert grab_all(world)[1] == in_order()[::-1]


def test_jobs_of_a_lost_worker_that_were_lost_too_often_fail() -> None:
    world = World(job_retries=1)
    client = submit_many(world, P.SUBMIT_JOB)
    worker, _ = grab_all(world)
    received = in_turns(world, worker.leave)
    assert b"".join(received[client]).count(packet(P.WORK_FAIL, b"", magic=0x00524553)[:8]) == MANY


def test_a_worker_with_many_functions_is_lost(world: World) -> None:
    worker = able(world, MANY)
    worker.send(P.PRE_SLEEP)
    in_turns(world, worker.leave)
    assert not any(function.workers for function in world.broker.queue.functions.values())


def able(world: World, functions: int) -> TestPeer:
    """Return a worker with functions ``0``, ``1`` ..."""
    worker = world.peer()
    worker.feed(b"".join(packet(P.CAN_DO, b"%d" % n) for n in range(functions)))
    complete(worker)
    return worker


def complete(peer: TestPeer) -> None:
    """Process all requests of a peer, and all unfinished work."""
    broker = peer.world.broker
    while peer.inside.pending_requests or broker.unfinished_work:
        if peer.inside.pending_requests:
            dispatch.resume(broker, peer.inside, peer.world.now)
        if broker.unfinished_work:
            broker.continue_work(peer.world.now)


def test_the_number_of_functions_of_a_worker_is_limited(world: World) -> None:
    worker = able(world, 16_384)
    worker.send(P.CAN_DO, b"0")
    assert worker.inside.failure is None
    worker.send(P.CAN_DO, b"one more")
    assert str(worker.inside.failure) == "a worker can register at most 16384 functions"


@pytest.mark.parametrize("kind", [P.SUBMIT_JOB, P.SUBMIT_JOB_BG])
def test_a_client_with_many_jobs_is_lost(world: World, kind: PacketType) -> None:
    client = submit_many(world, P.SUBMIT_JOB)
    other = world.peer()
    kept = [other.submit(b"f", b"%d" % n, kind=kind) for n in (7, MANY - 7)]
    in_turns(world, client.leave)
    assert list(world.broker.queue.jobs) == kept


def test_a_function_with_many_jobs_is_dropped(world: World) -> None:
    """A new function of the same name can get jobs before the last of the old jobs has failed."""
    client, other = submit_many(world, P.SUBMIT_JOB), world.peer()
    submit_many(world, P.SUBMIT_JOB_EPOCH)
    admin = world.peer()
    received = in_turns(world, lambda: admin.feed(b"drop function f\r\nstatus\r\n"), admin)
    assert b"".join(received[admin]) == b"OK\r\n.\n"
    assert b"".join(received[client]).count(b"\x00RES") == MANY
    submit_many(world, P.SUBMIT_JOB)
    admin.feed(b"drop function f\r\n")
    handle = other.submit(b"f", b"3")
    admin.leave()
    complete(other)
    assert list(world.broker.queue.jobs) == [handle]


def test_many_workers_are_woken(world: World) -> None:
    sleepers = [world.peer() for _ in range(MANY)]
    for sleeper in sleepers:
        sleeper.feed(packet(P.CAN_DO, b"f") + packet(P.PRE_SLEEP))
    gone, asleep = sleepers[-1], sleepers[-2]
    client = world.peer()

    def leave_and_submit() -> None:
        client.submit(b"f", kind=P.SUBMIT_JOB_BG)
        gone.leave()
        asleep.send(P.GRAB_JOB)  # so it need not be woken

    received = in_turns(world, leave_and_submit)
    noop = packet(P.NOOP, magic=0x00524553)
    assert [received.pop(sleeper) for sleeper in sleepers[:-2]] == [[noop]] * (len(sleepers) - 2)
    assert noop not in received[asleep]


def start_shared_job(world: World, *, peers: int = 20, copies: int = 100) -> tuple[TestPeer, bytes, list[TestPeer]]:
    """Start a job for which many peers wait, each with many submissions."""
    clients = [world.peer() for _ in range(peers)]
    worker = world.peer()
    for client in clients:
        client.feed(packet(P.SUBMIT_JOB, b"f", b"u", b"") * copies)
        complete(client)
        client.received()
    worker.send(P.CAN_DO, b"f")
    handle = worker.grab()
    assert handle is not None
    return worker, handle, clients


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (P.WORK_DATA, (b"data",)),
        (P.WORK_WARNING, (b"data",)),
        (P.WORK_STATUS, (b"1", b"2")),
        (P.WORK_COMPLETE, (b"data",)),
        (P.WORK_FAIL, ()),
        (P.WORK_EXCEPTION, (b"data",)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_packet_for_many_submissions(world: World, kind: PacketType, rest: tuple[bytes, ...]) -> None:
    """All copies are sent before the worker's next packet is processed."""
    worker, handle, clients = start_shared_job(world)
    clients[0].send(P.OPTION_REQ, b"exceptions")
    clients[0].received()
    client_between = clients[1]
    sent = packet(kind, handle, *rest) + packet(P.ECHO_REQ, b"next")
    received = in_turns(world, lambda: worker.feed(sent), worker)
    assert b"".join(received[worker]) == packet(P.ECHO_RES, b"next", magic=0x00524553)
    for client in clients:
        expected = packet(kind, handle, *rest, magic=0x00524553)
        if kind is P.WORK_EXCEPTION and client is not clients[0]:
            expected = packet(P.WORK_FAIL, handle + b"\0", magic=0x00524553)
        assert b"".join(received[client]) == expected * 100
    is_over = kind in (P.WORK_COMPLETE, P.WORK_FAIL, P.WORK_EXCEPTION)
    assert (client_between.submit(b"f", b"u") != handle) is is_over


def test_a_job_for_many_submissions_is_cancelled(world: World) -> None:
    worker, handle, clients = start_shared_job(world)
    admin = world.peer()
    received = in_turns(world, lambda: admin.feed(b"cancel job " + handle + b"\r\n"), admin)
    assert b"".join(received[admin]) == b"OK\r\n"
    for client in clients:
        assert b"".join(received[client]) == packet(P.WORK_FAIL, handle, magic=0x00524553) * 100
    assert list(worker.inside.running_jobs) == [handle]


@pytest.mark.parametrize("kind", [P.WORK_DATA, P.WORK_COMPLETE])
def test_a_packet_of_a_lost_worker_reaches_all_clients(world: World, kind: PacketType) -> None:
    worker, handle, clients = start_shared_job(world, peers=40)
    other = world.peer()
    other.send(P.CAN_DO, b"f")
    worker.feed(packet(kind, handle, b"data"))
    assert worker.inside.pending_requests
    early = {client: client.received() for client in clients}

    def leave() -> None:
        worker.leave()
        assert other.grab() is None  # no other worker gets the job before that

    received = in_turns(world, leave)
    for client in clients:
        sent = early[client] + b"".join(received.get(client, ()))
        assert sent == packet(kind, handle, b"data", magic=0x00524553) * 100
    assert other.grab() == (handle if kind is P.WORK_DATA else None)


def test_a_packet_for_many_submissions_stops_when_its_job_is_cancelled_or_a_client_leaves(world: World) -> None:
    worker, handle, clients = start_shared_job(world)
    worker.feed(packet(P.WORK_DATA, handle, b"data"))
    assert worker.inside.pending_requests
    clients[-1].leave()
    admin = world.peer()
    admin.feed(b"cancel job " + handle + b"\n")
    complete(worker)
    complete(admin)
    for client in clients[:-1]:
        kinds = client.kinds()
        assert kinds[-100:] == [P.WORK_FAIL] * 100
        assert set(kinds[:-100]) <= {P.WORK_DATA}
    assert clients[-1].inside.outgoing == []


@pytest.mark.parametrize("line", [b"show jobs", b"show unique jobs"])
def test_a_long_list_of_jobs(world: World, line: bytes) -> None:
    submit_many(world, P.SUBMIT_JOB_BG, number=2 * MANY)
    admin = world.peer()
    received = in_turns(world, lambda: admin.feed(line + b"\r\nversion\r\n"), admin)
    lines = b"".join(received[admin]).splitlines()
    assert len(lines) == 2 * MANY + 2
    assert lines[-2:] == [b".", b"OK geartrain"]


@pytest.mark.parametrize("line", [b"status", b"prioritystatus"])
def test_a_long_list_of_functions(world: World, line: bytes) -> None:
    admin = world.peer()
    for n in range(2 * MANY):
        world.broker.queue.ensure_function(b"%d" % n)
    admin.received()
    received = in_turns(world, lambda: admin.feed(line + b"\r\n"), admin)
    assert len(b"".join(received[admin]).splitlines()) == 2 * MANY + 1


def test_a_long_list_of_workers(world: World) -> None:
    for _ in range(10):
        able(world, 1000)
    admin = world.peer()
    received = in_turns(world, lambda: admin.feed(b"workers\r\n"), admin)
    lines = b"".join(received[admin]).splitlines()
    assert [len(line.split()) for line in lines] == [4 + 1000] * 10 + [4, 4, 1]


def test_jobs_that_end_during_a_listing_are_left_out(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_BG)
    admin, other = world.peer(), world.peer()
    admin.feed(b"show jobs\r\n")
    assert other.ask(b"cancel job H:test:%d" % MANY) == b"OK\r\n"
    complete(admin)
    assert len(admin.received().splitlines()) == MANY


def test_a_listing_stops_when_its_peer_leaves(world: World) -> None:
    submit_many(world, P.SUBMIT_JOB_BG)
    admin = world.peer()
    admin.feed(b"show jobs\r\n")
    assert admin.inside.pending_requests
    admin.leave()
    assert not world.broker.unfinished_work
    assert not admin.inside.outgoing


def test_many_short_requests(world: World) -> None:
    peer = world.peer()
    received = in_turns(world, lambda: peer.feed(packet(P.PRE_SLEEP) * MANY + packet(P.ECHO_REQ, b"end")), peer)
    assert b"".join(received[peer]) == packet(P.ECHO_RES, b"end", magic=0x00524553)
