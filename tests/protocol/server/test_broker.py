"""The broker without IO: improvements over gearmand, limits, and invariants for any input from peers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from geartrain.protocol.packets import PacketType
from geartrain.protocol.server import dispatch
from geartrain.protocol.server.broker import Broker
from tests.support.broker import TestPeer, World
from tests.support.wire import packet

P = PacketType


@pytest.fixture
def world() -> World:
    return World()


def worker(world: World, *functions: bytes) -> TestPeer:
    peer = world.peer()
    for function in functions or (b"f",):
        peer.send(P.CAN_DO, function)
    return peer


# Cases in which gearmand crashes, hangs or loses jobs.


def test_a_queued_job_is_removed_with_its_last_client_and_its_unique_is_free_again(world: World) -> None:
    leaver, client = world.peer(), world.peer()
    first = leaver.submit(b"f", b"unique")
    leaver.leave()
    assert client.ask(b"status") == b"f\t0\t0\t0\n.\n"
    second = client.submit(b"f", b"unique")
    assert second != first
    assert worker(world).grab() == second


@pytest.mark.parametrize("kinds", [(P.SUBMIT_JOB, P.SUBMIT_JOB_BG), (P.SUBMIT_JOB_BG, P.SUBMIT_JOB)])
def test_a_background_job_survives_a_client_that_waited_for_it(world: World, kinds: tuple[P, P]) -> None:
    leaver = world.peer()
    handle = leaver.submit(b"f", b"unique", kind=kinds[0])
    assert leaver.submit(b"f", b"unique", kind=kinds[1]) == handle
    leaver.leave()
    assert worker(world).grab() == handle


def test_a_job_that_is_run_again_although_it_was_abandoned_is_not_marked_as_ignored(world: World) -> None:
    """Otherwise a worker that watches for abandoned jobs would stop it. gearmand does not run it again."""
    leaver, admin, first, second = world.peer(), world.peer(), worker(world), worker(world)
    handle = leaver.submit(b"f", b"unique")
    assert first.grab() == handle
    leaver.leave()
    client = world.peer()
    assert client.submit(b"f", b"unique") == handle
    first.leave()
    assert admin.ask(b"show jobs") == handle + b"\t1\t1\t0\n.\n"
    assert second.grab() == handle
    assert admin.ask(b"show jobs") == handle + b"\t1\t0\t0\n.\n"


def test_a_client_that_joins_a_running_orphan_keeps_it_alive_when_its_worker_dies(world: World) -> None:
    leaver, client, first = world.peer(), world.peer(), worker(world)
    handle = leaver.submit(b"f", b"unique")
    assert first.grab() == handle
    leaver.leave()
    assert client.submit(b"f", b"unique") == handle
    first.leave()
    second = worker(world)
    assert second.grab() == handle
    second.send(P.WORK_COMPLETE, handle, b"result")
    assert client.packets() == [(P.WORK_COMPLETE, handle + b"\0result")]


def test_a_cancelled_running_job_has_no_clients_and_cannot_be_joined(world: World) -> None:
    client, able = world.peer(), worker(world)
    handle = client.submit(b"f", b"unique")
    assert able.grab() == handle
    assert client.ask(b"cancel job " + handle).endswith(b"OK\r\n")
    assert client.submit(b"f", b"unique") != handle
    able.send(P.WORK_COMPLETE, handle, b"result")
    assert client.packets() == []
    assert able.packets() == []


def test_a_cancelled_job_fails_each_submission_once(world: World) -> None:
    client, other = world.peer(), world.peer()
    handle = client.submit(b"f", b"unique")
    for peer in (client, other):
        assert peer.submit(b"f", b"unique") == handle
    assert world.peer().ask(b"cancel job " + handle) == b"OK\r\n"
    assert client.packets() == [(P.WORK_FAIL, handle)] * 2
    assert other.packets() == [(P.WORK_FAIL, handle)]
    assert world.peer().ask(b"cancel job " + handle) == b"ERR UNKNOWN_JOB\r\n"


def test_a_cancelled_job_is_not_run_again_when_its_worker_dies(world: World) -> None:
    client, able = world.peer(), worker(world)
    handle = client.submit(b"f", kind=P.SUBMIT_JOB_BG)
    assert able.grab() == handle
    client.ask(b"cancel job " + handle)
    able.leave()
    assert client.ask(b"show jobs") == b".\n"


def test_a_worker_is_woken_when_a_delayed_job_is_due(world: World) -> None:
    client, able = world.peer(), worker(world)
    due = int(world.now) + 100
    client.send(P.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % due, b"workload")
    able.send(P.PRE_SLEEP)
    world.pass_time(99.5)
    assert able.packets() == []
    assert able.grab() is None
    able.send(P.PRE_SLEEP)
    world.pass_time(0.5)
    assert able.kinds() == [P.NOOP]
    assert able.grab() is not None
    assert world.broker.next_deadline is None


def test_a_delayed_job_does_not_starve_jobs_of_low_priority(world: World) -> None:
    client = world.peer()
    client.send(P.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % (world.now + 100), b"later")
    client.packets()
    handle = client.submit(b"f", kind=P.SUBMIT_JOB_LOW)
    assert worker(world).grab() == handle


def test_an_epoch_beyond_64_bits_is_an_error(world: World) -> None:
    client = world.peer()
    client.send(P.SUBMIT_JOB_EPOCH, b"f", b"", b"9" * 30, b"workload")
    assert client.one(P.ERROR) == b"ARGUMENT_TOO_LARGE\0Epoch value too large"


def test_the_timeout_ends_with_the_job(world: World) -> None:
    client, able = world.peer(), world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", b"5000")
    handle = client.submit(b"f")
    assert able.grab() == handle
    able.send(P.WORK_COMPLETE, handle, b"")
    assert world.broker.next_deadline is None
    world.pass_time(10)
    assert client.ask(b"status").endswith(b"f\t0\t0\t1\n.\n")


def test_a_timeout_starts_when_the_job_is_assigned(world: World) -> None:
    able, client = world.peer(), world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", b"5000")
    client.submit(b"f")
    world.now += 100
    assert able.grab()
    assert world.broker.next_deadline == world.now + 5


def test_all_submissions_of_a_job_that_was_lost_too_often_fail() -> None:
    """The broker does not notify many submissions all at once."""
    world = World(job_retries=1)
    client, able = world.peer(), worker(world)
    client.feed(packet(P.SUBMIT_JOB, b"f", b"u", b"") * 500)
    assert able.grab()
    client.received()
    able.leave()
    while world.broker.unfinished_work:
        world.broker.continue_work(world.now)
    assert client.kinds() == [P.WORK_FAIL] * 500


def test_each_job_has_its_own_timeout(world: World) -> None:
    client, able = world.peer(), world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", b"5000")
    handles = [client.submit(b"f") for _ in range(3)]
    for handle in handles:
        assert able.grab() == handle
        world.pass_time(1)
    world.pass_time(3)
    assert client.ask(b"status") == b"f\t3\t1\t1\n.\n"
    able.send(P.WORK_COMPLETE, handles[2], b"")
    assert able.packets() == []
    able.send(P.WORK_COMPLETE, handles[0], b"")
    assert able.kinds() == [P.ERROR]


def test_a_worker_that_goes_to_sleep_keeps_its_jobs(world: World) -> None:
    """The timers of another worker, and of jobs that it grabs afterwards, are not affected."""
    client, sleeper, other = world.peer(), world.peer(), world.peer()
    for peer in (sleeper, other):
        peer.send(P.CAN_DO_TIMEOUT, b"f", b"5000")
    kept = [client.submit(b"f") for _ in range(2)]
    assert [sleeper.grab() for _ in range(2)] == kept
    lost = client.submit(b"f")
    assert other.grab() == lost
    sleeper.send(P.PRE_SLEEP)
    world.pass_time(6)
    assert list(sleeper.inside.running_jobs) == kept
    assert sleeper.kinds() == [P.NOOP]
    assert sleeper.grab() == lost
    world.pass_time(6)
    assert list(sleeper.inside.running_jobs) == kept


def test_a_worker_that_cannot_sleep_keeps_its_timers(world: World) -> None:
    client, able = world.peer(), world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", b"5000")
    handle = client.submit(b"f")
    assert able.grab() == handle
    client.submit(b"f")
    able.send(P.PRE_SLEEP)
    assert able.kinds() == [P.NOOP]
    world.pass_time(6)
    assert able.inside.running_jobs == {}


@pytest.mark.parametrize("timeout", [b"0", b"-1", b"", b"soon"])
def test_an_invalid_or_zero_timeout_sets_no_timer(world: World, timeout: bytes) -> None:
    able = world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", timeout)
    world.peer().submit(b"f")
    assert able.grab()
    assert world.broker.next_deadline is None


def test_a_timeout_of_many_digits_is_a_long_timeout(world: World) -> None:
    able = world.peer()
    able.send(P.CAN_DO_TIMEOUT, b"f", b"9" * 5000)
    world.peer().submit(b"f")
    assert able.grab()
    world.pass_time(1e9)
    assert world.broker.next_deadline is not None


def test_a_worker_that_goes_to_sleep_twice_is_woken_twice(world: World) -> None:
    """gearmand never wakes a worker again that responds to a NOOP with PRE_SLEEP."""
    client, able, other = world.peer(), worker(world), worker(world)
    able.send(P.PRE_SLEEP)
    client.submit(b"f")
    assert other.grab()
    assert able.kinds() == [P.NOOP]
    able.send(P.PRE_SLEEP)
    client.submit(b"f")
    assert able.kinds() == [P.NOOP]


def test_a_sleeping_worker_that_registers_a_function_with_jobs_is_woken(world: World) -> None:
    able = worker(world, b"g")
    world.peer().submit(b"f")
    able.send(P.PRE_SLEEP)
    assert able.packets() == []
    able.send(P.CAN_DO, b"f")
    assert able.kinds() == [P.NOOP]


def test_a_function_registered_twice_counts_once(world: World) -> None:
    able = worker(world, b"f", b"f")
    able.send(P.CAN_DO_TIMEOUT, b"f", b"1")
    assert able.ask(b"status") == b"f\t0\t0\t1\n.\n"


def test_a_function_is_dropped_with_its_jobs(world: World) -> None:
    client = world.peer()
    handle = client.submit(b"f", b"unique")
    background = client.submit(b"f", kind=P.SUBMIT_JOB_BG)
    assert world.peer().ask(b"drop function f") == b"OK\r\n"
    assert client.packets() == [(P.WORK_FAIL, handle)]
    assert client.ask(b"status") == b".\n"
    assert client.submit(b"f", b"unique") not in (handle, background)


def test_the_name_of_a_dropped_function_is_case_sensitive(world: World) -> None:
    client = world.peer()
    client.ask(b"create function f")
    assert client.ask(b"drop function F") == b"ERR function not found\r\n"


def test_a_command_needs_no_carriage_return(world: World) -> None:
    client = world.peer()
    client.feed(b"create function newf\nstatus\n")
    assert client.received() == b"OK\r\nnewf\t0\t0\t0\n.\n"


@pytest.mark.parametrize("size", [64, 1000])
def test_a_handle_or_unique_that_is_too_long_is_unknown(world: World, size: int) -> None:
    client = world.peer()
    client.send(P.GET_STATUS, b"h" * size)
    assert client.one(P.STATUS_RES) == b"h" * size + b"\x000\x000\x000\x000"
    client.send(P.GET_STATUS_UNIQUE, b"u" * size)
    assert client.one(P.STATUS_RES_UNIQUE) == b"u" * size + b"\x000\x000\x000\x000\x000"


def test_a_unique_of_64_bytes_is_accepted(world: World) -> None:
    client, able = world.peer(), worker(world)
    assert client.submit(b"f", b"u" * 64, b"w") == client.submit(b"f", b"u" * 64, b"w")
    able.send(P.GRAB_JOB_UNIQ)
    assert able.one(P.JOB_ASSIGN_UNIQ).split(b"\0")[1:] == [b"f", b"u" * 64, b"w"]


def test_a_long_denominator_is_forwarded_and_read(world: World) -> None:
    client, able = world.peer(), worker(world)
    handle = client.submit(b"f")
    able.grab()
    able.send(P.WORK_STATUS, handle, b"1", b"0" * 30 + b"7")
    assert client.one(P.WORK_STATUS).endswith(b"0007")
    client.send(P.GET_STATUS, handle)
    assert client.one(P.STATUS_RES) == handle + b"\x001\x001\x001\x007"


def test_a_long_handle_prefix_leaves_room_for_the_number() -> None:
    broker = Broker(handle_prefix=b"p" * 100)
    peer = broker.add_peer("x", 1)
    dispatch.receive(broker, peer, packet(P.SUBMIT_JOB, b"f", b"", b"") * 2, 0.0)
    first, second = list(broker.queue.jobs)
    assert first != second
    assert len(first) <= 63


# A faulty peer loses only its own connection.


@pytest.mark.parametrize(
    "data",
    [
        packet(P.SUBMIT_JOB, b"function"),
        packet(P.WORK_COMPLETE, b"handle"),
        packet(P.WORK_STATUS, b"handle", b"1"),
        packet(P.SUBMIT_REDUCE_JOB, b"f", b"u", b"r", b"w"),
        packet(P.CAN_DO_TIMEOUT, b"f"),
        packet(0),
        packet(43),
        packet(0x7FFFFFFF),
        packet(0x80000000),
        packet(0xFFFFFFFF),
        packet(P.CAN_DO, b"f" * 9000),
        packet(P.SUBMIT_JOB, b"f" * 9000, b"", b""),
        b"a b c d e f\n",
        b"x" * 9000,
        b"\0REX",
        packet(P.ECHO_REQ, bytes(1001))[:500],
    ],
)
def test_a_fault_ends_the_connection_after_earlier_requests_were_answered(data: bytes) -> None:
    world = World(max_packet_size=1000)
    peer, other = world.peer(), world.peer()
    peer.feed(packet(P.ECHO_REQ, b"before") + data + packet(P.SUBMIT_JOB, b"after", b"", b""))
    assert peer.inside.failure is not None
    assert peer.inside in world.broker.take_ready()
    assert peer.packets()[:1] == [(P.ECHO_RES, b"before")]
    peer.feed(packet(P.ECHO_REQ, b"later"))
    assert peer.packets() == []
    other.send(P.ECHO_REQ, b"x")
    assert other.packets() == [(P.ECHO_RES, b"x")]
    assert b"after" not in world.broker.queue.functions


# Limits.


def test_many_large_replies_to_a_peer_are_sent_in_turns(world: World) -> None:
    greedy = worker(world)
    for _ in range(10):
        world.peer().submit(b"f", b"", bytes(600_000), kind=P.SUBMIT_JOB_BG)
    greedy.feed(packet(P.GRAB_JOB) * 11 + packet(P.ECHO_REQ, b"end"))
    turns = 0
    kinds = greedy.kinds()
    while greedy.inside.pending_requests:
        assert greedy.inside.outgoing_size < 2_000_000
        dispatch.resume(world.broker, greedy.inside, world.now)
        kinds += greedy.kinds()
        turns += 1
    assert kinds == [*[P.JOB_ASSIGN] * 10, P.NO_JOB, P.ECHO_RES]
    assert turns >= 4


def count_turns(peer: TestPeer) -> int:
    """Process all pending requests of a peer, and return the number of turns."""
    turns = 1
    while peer.inside.pending_requests:
        peer.inside.take_outgoing()
        dispatch.resume(peer.world.broker, peer.inside, peer.world.now)
        turns += 1
    return turns


@pytest.mark.parametrize(
    "request_",
    [
        packet(P.GRAB_JOB),
        packet(P.PRE_SLEEP),
        packet(P.GET_STATUS_UNIQUE, b"u"),
    ],
    ids=["GRAB_JOB", "PRE_SLEEP", "GET_STATUS_UNIQUE"],
)
def test_expensive_requests_are_processed_in_turns(world: World, request_: bytes) -> None:
    """A thousand short requests of a peer would delay all others for seconds."""
    greedy = world.peer()
    for number in range(500):
        greedy.send(P.CAN_DO, b"%d" % number)
        world.peer().submit(b"f", b"u")
        world.peer().submit(b"f", b"", kind=P.SUBMIT_JOB_BG)
    greedy.feed(request_ * 400)
    assert 8 < count_turns(greedy) < 40


@pytest.mark.untraced
def test_updates_for_many_submissions_are_forwarded_in_turns(world: World) -> None:
    client, able = world.peer(), worker(world)
    handle = client.submit(b"f", b"u")
    client.feed(packet(P.SUBMIT_JOB, b"f", b"u", b"") * 999)
    able.grab()
    able.feed(packet(P.WORK_DATA, handle, b"") * 200)
    assert 8 < count_turns(able) < 60
    assert client.kinds().count(P.WORK_DATA) == 200_000


def test_the_pending_requests_are_not_copied_at_the_end_of_a_turn(world: World) -> None:
    """Copying them in each turn would take quadratic time."""
    peer = world.peer()
    peer.feed(packet(P.ECHO_REQ, bytes(2_000_000)) * 3 + packet(P.GRAB_JOB))
    waiting, size = peer.inside.pending_requests[0], peer.inside.pending_size
    assert size > 6_000_000
    assert peer.kinds() == [P.ECHO_RES]
    dispatch.resume(world.broker, peer.inside, world.now)
    assert peer.inside.pending_requests[0] is waiting
    assert count_turns(peer) > 1
    assert peer.inside.pending_size == 0


def test_removing_a_worker_with_many_jobs_of_many_functions_takes_linear_work(world: World) -> None:
    able = world.peer()
    for number in range(300):
        able.send(P.CAN_DO, b"%d" % number)
        world.peer().submit(b"%d" % number, kind=P.SUBMIT_JOB_BG)
    for _ in range(300):
        able.send(P.GRAB_JOB)
    assert len(able.inside.running_jobs) == 300
    world.broker.work_done = 0
    able.leave()
    assert world.broker.work_done < 4000
    assert not any(function.running_count for function in world.broker.queue.functions.values())


def test_a_listing_over_the_backlog_limit_is_not_built(world: World) -> None:
    world = World(max_backlog=100_000)
    peer = world.peer()
    peer.feed(b"".join(packet(P.SUBMIT_JOB_BG, b"%d" % n + b"f" * 8000, b"", b"") for n in range(1000)))
    count_turns(peer)
    peer.inside.take_outgoing()
    tracemalloc.start()
    try:
        peer.feed(b"status\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "left more than 100000 bytes unread" in str(peer.inside.failure)
    assert peak < 30_000_000


def measure_memory(number: int, fill: Callable[[World, int], None]) -> tuple[int, int]:
    """Return the memory that ``number`` items take, and the queue's estimate of it."""
    world = World()
    fill(world, 0)  # for objects that exist only once
    tracemalloc.start()
    try:
        before = world.broker.queue.size
        for n in range(1, number):
            fill(world, n)
        for peer in world.broker.peers:
            peer.take_outgoing()
        return tracemalloc.get_traced_memory()[0], world.broker.queue.size - before
    finally:
        tracemalloc.stop()


def fill_with_jobs(world: World, n: int) -> None:
    peer = next(iter(world.broker.peers), None) or world.peer().inside
    dispatch.receive(world.broker, peer, packet(P.SUBMIT_JOB, b"f", b"unique %d" % n, b"workload"), world.now)


def fill_with_functions(world: World, n: int) -> None:
    peer = next(iter(world.broker.peers), None) or world.peer().inside
    dispatch.receive(world.broker, peer, b"create function some-%d\n" % n, world.now)


def fill_with_abilities(world: World, n: int) -> None:
    if n == 0:
        world.peer().feed(b"".join(packet(P.CAN_DO_TIMEOUT, b"%d" % n + b"f" * 500, b"1000") for n in range(30)))
    else:
        peer = world.broker.add_peer("127.0.0.1", n)
        able = b"".join(packet(P.CAN_DO_TIMEOUT, b"%d" % n + b"f" * 500, b"1000") for n in range(30))
        dispatch.receive(world.broker, peer, able + packet(P.PRE_SLEEP), world.now)


def fill_with_clients(world: World, n: int) -> None:
    for unique in range(30):
        peer = list(world.broker.peers)[-1] if unique else world.broker.add_peer("127.0.0.1", n)
        dispatch.receive(world.broker, peer, packet(P.SUBMIT_JOB, b"f", b"unique %d" % unique, b"workload"), world.now)


@pytest.mark.untraced  # what the coverage tool allocates would count
@pytest.mark.parametrize("fill", [fill_with_jobs, fill_with_functions, fill_with_abilities, fill_with_clients])
def test_the_queue_does_not_underestimate_its_memory(fill: Callable[[World, int], None]) -> None:
    """Otherwise the limit would be ineffective. The estimate does not include the 200 peers themselves."""
    used, estimated = measure_memory(200, fill)
    connections = 200 * 2_000 if fill in (fill_with_abilities, fill_with_clients) else 0
    assert used < estimated + connections
    assert estimated < 6 * used


def test_requests_that_arrive_while_others_are_pending_are_answered_after_them(world: World) -> None:
    peer = world.peer()
    peer.feed(packet(P.ECHO_REQ, bytes(2_000_000)) + packet(P.ECHO_REQ, b"1"))
    peer.feed(packet(P.ECHO_REQ, b"2"))
    assert len(peer.packets()) == 1
    dispatch.resume(world.broker, peer.inside, world.now)
    assert [body for _, body in peer.packets()] == [b"1", b"2"]


def test_a_peer_over_the_backlog_limit_does_not_affect_others() -> None:
    world = World(max_backlog=10_000)
    slow, client, able = world.peer(), world.peer(), worker(world)
    handle = slow.submit(b"f", b"unique")
    assert client.submit(b"f", b"unique") == handle
    assert able.grab() == handle
    for _ in range(100):
        able.send(P.WORK_DATA, handle, bytes(200))
        client.packets()
    assert slow.inside.failure is not None
    assert slow.inside.outgoing_size <= 10_000
    assert client.inside.failure is None


def test_nothing_is_sent_after_a_packet_dropped_over_the_backlog_limit() -> None:
    """A result without earlier data would be incomplete, and a handle would go to the wrong submission."""
    world = World(max_backlog=1000)
    client, able = world.peer(), worker(world)
    handle = client.submit(b"f", b"")
    assert able.grab() == handle
    able.feed(packet(P.WORK_DATA, handle, bytes(2000)) + packet(P.WORK_COMPLETE, handle, b"result"))
    assert client.inside.failure is not None
    assert client.packets() == []


def test_a_full_queue_refuses_jobs_and_accepts_them_again_when_there_is_room() -> None:
    world = World(max_queue_size=100_000)
    client, able = world.peer(), worker(world)
    handles = []
    for number in range(1000):
        client.send(P.SUBMIT_JOB, b"f", b"%d" % number, b"workload")
        kind, body = client.packets()[0]
        if kind is P.ERROR:
            assert body == b"QUEUE_ERROR\0Job queue is full"
            break
        handles.append(body)
    assert 10 < len(handles) < 100
    client.send(P.SUBMIT_JOB, b"f", b"1", b"")
    assert client.kinds() == [P.ERROR]
    client.send(P.SUBMIT_JOB, b"new function", b"", b"")
    assert client.kinds() == [P.ERROR]
    assert client.ask(b"create function new") == b"ERR QUEUE_ERROR Job+queue+is+full\r\n"
    assert client.ask(b"create function f") == b"OK\r\n"  # it exists already
    client.send(P.SUBMIT_JOB_BG, b"f", b"1", b"")
    assert client.kinds() == [P.JOB_CREATED]
    for _ in range(10):
        handle = able.grab()
        assert handle
        able.send(P.WORK_COMPLETE, handle, b"")
    client.packets()
    client.submit(b"f")


def test_a_worker_cannot_fill_the_server_with_functions() -> None:
    world = World(max_queue_size=100_000)
    peer = world.peer()
    for number in range(1000):
        peer.send(P.CAN_DO, b"function %d" % number)
    assert peer.inside.failure is not None
    assert len(world.broker.queue.functions) < 100


@pytest.mark.untraced
def test_the_number_of_submissions_of_a_job_is_limited(world: World) -> None:
    client = world.peer()
    client.feed(packet(P.SUBMIT_JOB, b"f", b"u", b"") * 100_001)
    kinds = client.kinds()
    while client.inside.pending_requests:
        dispatch.resume(world.broker, client.inside, world.now)
        kinds += client.kinds()
    assert kinds.count(P.JOB_CREATED) == 100_000
    assert kinds[-1] is P.ERROR


def test_removed_peers_and_jobs_leave_nothing(world: World) -> None:
    empty = world.broker.queue.size
    for number in range(100):
        client, able = world.peer(), world.peer()
        able.send(P.CAN_DO_TIMEOUT, b"f", b"1000")
        for unique in (b"", b"-", b"u", b"v"):
            client.submit(b"f", unique, b"%d" % number)
        client.send(P.SUBMIT_JOB_EPOCH, b"f", b"x", b"9999999999", b"later")
        able.grab()
        client.leave()
        able.leave()
        world.peer().ask(b"cancel job H:test:%d" % (5 * number + 5))
    queue = world.broker.queue
    assert (len(queue.jobs), len(queue.delayed_jobs), world.broker.next_deadline) == (0, 0, None)
    assert world.peer().ask(b"drop function f") == b"OK\r\n"
    assert queue.size == empty
