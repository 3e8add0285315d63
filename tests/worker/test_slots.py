from __future__ import annotations

import math
from collections import deque
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.worker.slots import Slots


class Server:
    """A connection to a job server with this many queued jobs."""

    def __init__(self, jobs: float = 0, window: int = 1) -> None:
        self.jobs = jobs
        self.window = window
        self.grabs = 0
        self.gone = False

    @property
    def may_grab(self) -> bool:
        return not self.gone and self.grabs < self.window and self.jobs > 0

    def grab(self) -> None:
        self.grabs += 1


class World:
    """Slots, and the jobs that run in them. With ``eager``, every second job ends while it is started."""

    def __init__(self, concurrency: int, *servers: Server, eager: bool = False, limit: float = math.inf) -> None:
        self.servers = servers
        self.eager = eager
        self.running: deque[tuple[Server, int]] = deque()
        self.order: list[int] = []
        self.numbers = count()
        self.slots: Slots[Server, int] = Slots(concurrency, self.start, limit)
        self.accounts = {server: self.slots.open_account(server) for server in servers}
        for account in self.accounts.values():
            self.slots.enqueue(account)
        self.slots.distribute()

    def start(self, server: Server, job: int) -> None:
        self.running.append((server, job))
        self.order.append(self.servers.index(server))
        assert len(self.running) <= self.slots.concurrency
        if self.eager and job % 2:
            self.running.pop()
            self.slots.release()

    def request(self, server: Server) -> None:
        self.slots.enqueue(self.accounts[server])
        self.slots.distribute()

    def reserved(self, server: Server) -> int:
        return self.accounts[server].reserved

    def answer(self, server: Server, *, job: bool) -> None:
        server.grabs -= 1
        server.jobs -= job
        self.slots.on_replies(self.accounts[server], 1, [next(self.numbers)] if job else [])
        self.request(server)

    def end(self) -> None:
        self.running.popleft()
        self.slots.release()


def test_one_slot_goes_to_two_busy_servers_in_turn() -> None:
    """python-gearman#47: the second server starved."""
    world = World(1, Server(jobs=50), Server(jobs=50))
    for _ in range(100):
        (asked,) = (server for server in world.servers if server.grabs)
        world.answer(asked, job=True)
        world.end()
    assert world.order == [0, 1] * 50


def test_slots_are_shared_evenly_between_servers_that_may_grab() -> None:
    world = World(10, Server(jobs=100, window=100), Server(jobs=100, window=100), Server())
    assert [world.reserved(server) for server in world.servers] == [5, 5, 0]
    assert world.slots.free == 0


def test_an_empty_reply_passes_its_slot_to_the_next_server() -> None:
    empty, busy = Server(jobs=1), Server(jobs=10)
    world = World(1, empty, busy)
    empty.jobs = 0  # another worker was faster
    world.answer(empty, job=False)
    assert (empty.grabs, busy.grabs) == (0, 1)


def test_a_server_that_does_not_reply_does_not_keep_a_slot_forever() -> None:
    hung, well = Server(jobs=10), Server(jobs=10)
    world = World(1, hung, well)
    assert (hung.grabs, well.grabs) == (1, 0)
    world.slots.reclaim(world.accounts[hung])
    assert well.grabs == 1
    world.answer(well, job=True)
    world.answer(hung, job=True)  # it arrives late, and waits for the slot
    assert world.order == [1]
    world.end()
    assert world.order == [1, 0]


def test_a_late_job_gets_the_slot_of_an_empty_reply() -> None:
    hung, well = Server(jobs=10), Server(jobs=10)
    world = World(1, hung, well)
    world.slots.reclaim(world.accounts[hung])
    world.answer(hung, job=True)
    assert world.order == []
    well.jobs = 0
    world.answer(well, job=False)
    assert world.order == [0]


def test_a_late_empty_reply_does_not_free_a_slot_twice() -> None:
    hung = Server(jobs=10)
    world = World(1, hung)
    world.slots.reclaim(world.accounts[hung])
    hung.jobs = 0
    world.answer(hung, job=False)
    assert world.slots.free == 1
    assert world.slots.is_idle


def test_late_jobs_of_a_lost_connection_are_not_started() -> None:
    hung, well = Server(jobs=10), Server(jobs=10)
    world = World(1, hung, well)
    world.slots.reclaim(world.accounts[hung])
    world.answer(well, job=True)
    world.answer(hung, job=True)
    assert not world.slots.is_idle
    hung.gone = True
    world.slots.remove(world.accounts[hung])
    well.jobs = 0
    world.end()
    assert world.order == [1]
    assert world.slots.is_idle


def test_closed_slots_request_nothing_and_report_when_all_jobs_have_ended() -> None:
    world = World(2, Server(jobs=10, window=10))
    ended: list[bool] = []
    world.slots.close(lambda: ended.append(True))
    world.answer(world.servers[0], job=True)
    world.end()
    assert not ended
    world.answer(world.servers[0], job=False)
    assert ended
    assert world.servers[0].grabs == 0


@pytest.mark.parametrize("ended_by", ["an empty answer", "the loss of its connection"])
def test_a_grab_without_a_job_does_not_count_towards_the_limit(ended_by: str) -> None:
    first, second = Server(jobs=10), Server(jobs=10)
    world = World(1, first, second, limit=1)
    for asked in (first, second) * 2:
        assert asked.grabs == 1
        if ended_by == "an empty answer":
            world.answer(asked, job=False)
            continue
        asked.gone = True
        world.slots.remove(world.accounts[asked])
        asked.grabs, asked.gone = 0, False
        world.request(asked)
    assert world.slots.remaining == 1


def test_the_limit_holds_after_a_connection_with_answered_grabs_is_lost() -> None:
    lost, first, second = Server(jobs=10), Server(), Server()
    world = World(2, lost, first, second, limit=1)
    for _ in range(3):
        world.answer(lost, job=False)
    lost.gone = True
    world.slots.remove(world.accounts[lost])
    for server in (first, second):
        server.jobs = 10
        world.request(server)
    assert first.grabs + second.grabs == 1


def test_a_grab_sent_while_a_job_is_started_keeps_its_slot() -> None:
    """The job ends immediately and its slot goes to the next grab, so an empty reply does not free it."""
    server = Server(jobs=10, window=2)
    world = World(1, server, eager=True)
    world.slots.reclaim(world.accounts[server])
    world.request(server)
    assert (server.grabs, world.reserved(server)) == (2, 1)
    server.grabs = 0
    world.slots.on_replies(world.accounts[server], 2, [1])  # odd, so it ends while it is started
    assert (server.grabs, world.reserved(server), world.slots.free) == (1, 1, 0)


def test_a_connection_lost_while_its_job_is_started_frees_each_slot_once() -> None:
    server = Server(jobs=10, window=2)

    def start(server: Server, _: int) -> None:
        server.gone = True
        slots.remove(account)

    slots: Slots[Server, int] = Slots(2, start)
    account = slots.open_account(server)
    slots.enqueue(account)
    slots.distribute()
    slots.on_replies(account, 2, [0])
    assert (slots.free, account.reserved) == (1, 0)
    slots.release()
    assert slots.is_idle


def test_any_number_of_late_jobs_may_end_while_they_are_started() -> None:
    """Each gives its slot to the next one, which must not be started from inside it."""
    late = 2000
    hung = Server(jobs=math.inf, window=late)
    world = World(1, hung, eager=True)
    world.start(hung, 0)  # keeps the only slot
    world.slots.free = 0
    world.numbers = count(1, step=2)
    world.accounts[hung].reserved = 0
    world.slots.on_replies(world.accounts[hung], late, [next(world.numbers) for _ in range(late)])
    assert len(world.order) == 1
    world.end()
    assert len(world.order) == 1 + late


@given(
    st.booleans(),
    st.one_of(st.just(math.inf), st.integers(1, 20)),
    st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from(["job", "none", "end", "reclaim", "lose"]), st.integers(0, 2)), max_size=80),
)
def test_never_more_jobs_than_slots_and_no_slot_is_lost(
    eager: bool, limit: float, concurrency: int, windows: list[int], script: list[tuple[str, int]]
) -> None:
    servers = [Server(jobs=math.inf, window=window) for window in windows]
    world = World(concurrency, *servers, eager=eager, limit=limit)
    for action, index in script:
        server = world.servers[index % len(world.servers)]
        if action in ("job", "none") and server.grabs and not server.gone:
            world.answer(server, job=action == "job")
        elif action == "end" and world.running:
            world.end()
        elif action == "reclaim":
            world.slots.reclaim(world.accounts[server])
        elif action == "lose":
            server.gone = True
            world.slots.remove(world.accounts[server])
            server.grabs = 0
        reserved = sum(world.reserved(server) for server in world.servers)
        assert len(world.running) + reserved + world.slots.free == concurrency
        assert all(world.reserved(server) <= server.grabs for server in world.servers)
        assert not (world.slots.free and world.slots._overflow)
        # With max_jobs, jobs brought by further grabs could not be run.
        assert sum(server.grabs for server in world.servers) <= world.slots.remaining
    for server in world.servers:
        server.gone = True
        world.slots.remove(world.accounts[server])
        server.grabs = 0
    while world.running:
        world.end()
    assert world.slots.is_idle
