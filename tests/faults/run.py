"""One run: its jobs, its faults, and its outcome."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from geartrain import Client, Job, RemoteProtocolError
from tests.faults.jobs import JobRecord, draw_jobs, make_last_jobs
from tests.faults.maps import draw_maps
from tests.faults.schedule import (
    FAULTS,
    OUTAGES,
    SERVER_FAULTS,
    WIRE_FAULTS,
    WORKER_FAULTS,
    Fault,
    Inject,
    draw_faults,
)
from tests.faults.targets import Site, WorkerProcess
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

WORKERS: Final = 5  # one for each executor
MAPPED_SHARE: Final = 1 / 3  # of the jobs
LAST_JOBS: Final = 20  # of each kind, at the end
END_WITHIN: Final = 60.0  # seconds after the last fault within which all jobs must end
CLIENT_OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"balance": "round-robin", "heartbeat": 1.0},
    {"balance": "random", "heartbeat": 0.5, "max_outstanding": 100},
)


class InjectedFault(NamedTuple):
    """
    A fault that was injected.

    Attributes:
        target: The address of the job server, as clients know it, or "workers".
        name: The name of the fault.
        begun_at: In seconds since the run began.
        ended_at: When the target was restored.
    """

    target: str
    name: str
    begun_at: float
    ended_at: float


class Schedule(NamedTuple):
    """
    The faults of a target, or of several at once.

    Attributes:
        titles: The names under which the faults are recorded.
        targets: What the faults are applied to.
        faults: In order, one at a time.
    """

    titles: list[str]
    targets: Sequence[Any]
    faults: list[Fault]


@dataclass
class Outcome:
    """
    The outcome of a run.

    Attributes:
        jobs: All submissions.
        faults: All faults.
        ran: How often the workers did (what, with which job).
        errors: What was wrong with the counters of the clients, the bytes that they received, and their maps.
        retries: How often the clients retried a job.
        loop_errors: What the event loop's exception handler was called with.
        seconds: How long it took.
    """

    jobs: list[JobRecord]
    faults: list[InjectedFault] = field(default_factory=list)
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    retries: int = 0
    loop_errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Run:
    """
    Runs a number of jobs in a number of seconds under the faults of a seed.

    Two gearmands, three worker processes and the wires between them each have their own schedule, so faults may
    overlap. Two clients use both gearmands; a third uses only the first, so that it sends the jobs of its maps
    together. After the last fault everything is restored, so that every job can end.
    """

    def __init__(self, seed: str, *, jobs: int, seconds: float, directory: Path) -> None:
        self._randomness = random.Random(seed)
        self._seconds = seconds
        self._begun = 0.0
        self._loop = asyncio.get_running_loop()
        mapped = round(jobs * MAPPED_SHARE)
        self._jobs = draw_jobs(self._randomness, jobs - mapped)
        self._maps = draw_maps(self._randomness, mapped)
        self._mapping: list[asyncio.Task[None]] = []
        self.outcome = Outcome([])
        self.sites = [Site(directory) for _ in range(2)]
        addresses = [site.for_workers.address for site in self.sites]
        self.workers = [WorkerProcess(directory, number, addresses) for number in range(WORKERS)]
        self._turns: defaultdict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)  # one fault of a target at a time
        self._schedules: list[Schedule] = []
        for site in self.sites:
            address = site.for_clients.address
            self._schedule([address], [site], SERVER_FAULTS, 2.5)
            self._schedule([address], [site.for_clients], WIRE_FAULTS, 1.0)
            self._schedule(["workers"], [site.for_workers], WIRE_FAULTS, 1.5)
        for_clients = [site.for_clients for site in self.sites]
        self._schedule([wire.address for wire in for_clients], for_clients, OUTAGES, 8.0)
        self._schedule(["workers"], [site.for_workers for site in self.sites], OUTAGES, 6.0)
        for worker in self.workers:
            self._schedule(["workers"], [worker], WORKER_FAULTS, 4.0)

    def _schedule(
        self, titles: list[str], targets: Sequence[Any], names: Mapping[str, Inject], mean_wait: float
    ) -> None:
        faults = draw_faults(self._randomness, names, mean_wait, self._seconds)
        self._schedules.append(Schedule(titles, targets, faults))

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return sum(record.ends for record in self.outcome.jobs)

    async def run(self) -> Outcome:
        """Run it; raises only if the test itself fails."""
        self._loop.set_exception_handler(lambda _, context: self.outcome.loop_errors.append(repr(context)))
        async with AsyncExitStack() as stack:
            for site in self.sites:
                stack.push_async_callback(site.stop)
                await site.start()
            for worker in self.workers:
                stack.push_async_callback(worker.end, signal.SIGKILL)
                await worker.start()
            servers = [site.for_clients.address for site in self.sites]
            clients = [
                await stack.enter_async_context(self._make_client(servers, **options)) for options in CLIENT_OPTIONS
            ]
            mapper = await stack.enter_async_context(self._make_client(servers[:1], heartbeat=1.0))
            self._begun = self._loop.time()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._submit(clients))
                group.create_task(self._map(mapper))
                for schedule in self._schedules:
                    group.create_task(self._inject_faults(schedule))
            await self._end(clients)
            jobs = [record.job for record in self.outcome.jobs if record.job]
            await asyncio.wait([*jobs, *self._mapping], timeout=END_WITHIN)
            self.outcome.seconds = self._loop.time() - self._begun
            await self._leave_maps()
            for client in (*clients, mapper):
                self.outcome.errors += check_counters(client)
                self.outcome.retries += sum(server.retried for server in client.statistics().servers.values())
            for worker in self.workers:
                await worker.end(signal.SIGTERM)  # lets it write abandoned jobs that still run to its ledger
        for worker in self.workers:
            self.outcome.ran += worker.read_ledger()
        return self.outcome

    def _make_client(self, servers: list[str], **options: Any) -> Client:
        return Client(servers, connect_timeout=1.0, dead_time=0.5, on_disconnected=self._note_disconnected, **options)

    async def _end(self, clients: list[Client]) -> None:
        """Leave some connections dead and some jobs orphaned, with no further traffic that would end them anyway."""
        begun_at = self._loop.time() - self._begun
        await self._submit_on_dead_connections(clients)
        await self._submit_orphans(clients)
        ended_at = self._loop.time() - self._begun
        for title in ("workers", *(site.for_clients.address for site in self.sites)):
            self.outcome.faults.append(InjectedFault(title, "end", begun_at, ended_at))

    async def _submit_on_dead_connections(self, clients: list[Client]) -> None:
        """Submit jobs on connections that stay dead."""
        wires = [site.for_clients for site in self.sites]
        for wire in wires:
            await wire.play_dead()
            await wire.reset()
        self._submit_last(clients, "unanswered")
        await eventually(lambda: all(wire.connections for wire in wires), END_WITHIN)
        for wire in wires:
            await wire.heal()

    async def _submit_orphans(self, clients: list[Client]) -> None:
        """Have retried jobs join their abandoned first try, which gearmand drops when the first worker returns."""
        only, *others = [site.for_clients for site in self.sites]
        refused = [*others, *(site.for_workers for site in self.sites)]
        for wire in refused:
            await wire.refuse()
            await wire.reset()
        orphaned = self._submit_last(clients, "orphaned")
        await eventually(lambda: all(job.handle for job in orphaned), END_WITHIN)
        tries = [job.tries for job in orphaned]
        only.cut()
        await eventually(
            lambda: all(job.tries > before and job.handle for job, before in zip(orphaned, tries, strict=True)),
            END_WITHIN,
        )
        for wire in refused:
            await wire.heal()

    def _submit_last(self, clients: list[Client], name: str) -> list[Job]:
        for number, record in enumerate(make_last_jobs(LAST_JOBS, name)):
            self.outcome.jobs.append(record)
            record.submit(clients[number % len(clients)], self._begun)
        return [record.job for record in self.outcome.jobs[-LAST_JOBS:] if isinstance(record.job, Job)]

    def _note_disconnected(self, server: str, error: Exception | None) -> None:
        if isinstance(error, RemoteProtocolError):  # gearmand follows the protocol, and no fault changes bytes
            self.outcome.errors.append(f"packets of {server} were rejected: {error}")

    async def _submit(self, clients: list[Client]) -> None:
        """Submit the jobs, evenly distributed over the run."""
        for number, record in enumerate(self._jobs):
            await self._wait_until(self._seconds * number / len(self._jobs))
            self.outcome.jobs.append(record)
            record.submit(clients[number % len(clients)], self._begun)

    async def _map(self, client: Client) -> None:
        """Start the maps, evenly distributed over the run."""
        for number, each in enumerate(self._maps):
            await self._wait_until(self._seconds * number / len(self._maps))
            self._mapping.append(asyncio.create_task(each.run(client, self.outcome.jobs, self._begun)))

    async def _wait_until(self, seconds: float) -> None:
        due = self._begun + seconds
        if due > self._loop.time():
            await asyncio.sleep(due - self._loop.time())

    async def _leave_maps(self) -> None:
        """Cancel the maps that are still running; their jobs stay pending, for the judge to report."""
        for task in self._mapping:
            if task.cancel():
                self.outcome.errors.append("a map has not ended")
        ends = await asyncio.gather(*self._mapping, return_exceptions=True)
        self.outcome.errors += [repr(end) for end in ends if isinstance(end, Exception)]

    async def _inject_faults(self, schedule: Schedule) -> None:
        """Inject the faults of a schedule, one after the other."""
        for fault in schedule.faults:
            await asyncio.sleep(fault.wait)
            async with AsyncExitStack() as turns:
                for target in schedule.targets:
                    await turns.enter_async_context(self._turns[target])
                begun_at = self._loop.time() - self._begun
                await FAULTS[fault.name](*schedule.targets, fault)
                for target in schedule.targets:
                    if isinstance(target, Proxy):
                        await target.heal()
            ended_at = self._loop.time() - self._begun
            self.outcome.faults += (InjectedFault(title, fault.name, begun_at, ended_at) for title in schedule.titles)


def check_counters(client: Client) -> list[str]:
    """Check that the counters of a client whose jobs have all ended add up."""
    statistics = client.statistics()
    ended = statistics.completed + statistics.failed + statistics.cancelled
    if statistics.outstanding or statistics.submitted != ended:
        return [f"the counters of a client do not add up: {statistics}"]
    return []
