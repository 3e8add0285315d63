"""One run: jobs, the faults that befall them, and what became of both."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from geartrain import Client
from tests.faults.jobs import Asked, draw_jobs
from tests.faults.schedule import FAULTS, SERVER_FAULTS, WIRE_FAULTS, WORKER_FAULTS, Fault, draw_faults
from tests.faults.targets import Site, WorkerProcess

WORKERS: Final = 3
END_WITHIN: Final = 60.0  # seconds after the last fault in which all jobs are to have ended
CLIENT_OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"balance": "round-robin", "heartbeat": 1.0},
    {"balance": "random", "heartbeat": 0.5},
)


class Befallen(NamedTuple):
    """
    A fault that was.

    Attributes:
        target: The address of the job server, as clients know it, or "workers".
        name: Of the fault.
        begun_at: In seconds since the run began.
        ended_at: When all was as before.
    """

    target: str
    name: str
    begun_at: float
    ended_at: float


@dataclass
class Outcome:
    """
    What a run has left.

    Attributes:
        jobs: All submissions.
        faults: All faults.
        ran: How often the workers did (what, with which job).
        books: What was wrong with the counters of the clients.
        loop_errors: What the event loop was told of by nobody who could handle it.
        seconds: How long it took.
    """

    jobs: list[Asked]
    faults: list[Befallen] = field(default_factory=list)
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    books: list[str] = field(default_factory=list)
    loop_errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Run:
    """
    Runs so many jobs in so many seconds under the faults of a seed.

    Two gearmands, three worker processes and the wires between have each their own schedule of faults, and so may be
    in trouble at a time. When the last fault is over all is made well, so that every job can end.
    """

    def __init__(self, seed: str, *, jobs: int, seconds: float, directory: Path) -> None:
        self._randomness = random.Random(seed)
        self._seconds = seconds
        self._begun = 0.0
        self._loop = asyncio.get_running_loop()
        self.outcome = Outcome(draw_jobs(self._randomness, jobs))
        self.sites = [Site(directory) for _ in range(2)]
        addresses = [site.for_workers.address for site in self.sites]
        self.workers = [WorkerProcess(directory, number, addresses) for number in range(WORKERS)]
        self._schedules: list[tuple[str, Any, list[Fault]]] = []
        for site in self.sites:
            address = site.for_clients.address
            self._schedule(address, site, SERVER_FAULTS, 2.5)
            self._schedule(address, site.for_clients, WIRE_FAULTS, 1.0)
            self._schedule("workers", site.for_workers, WIRE_FAULTS, 1.5)
        for worker in self.workers:
            self._schedule("workers", worker, WORKER_FAULTS, 4.0)

    def _schedule(
        self, title: str, target: Any, names: Mapping[str, Callable[[Any, Fault], Awaitable[None]]], mean_wait: float
    ) -> None:
        self._schedules.append((title, target, draw_faults(self._randomness, names, mean_wait, self._seconds)))

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return sum(asked.ends for asked in self.outcome.jobs)

    async def run(self) -> Outcome:
        """Run it; raises only where the machinery itself fails."""
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
                await stack.enter_async_context(Client(servers, connect_timeout=1.0, dead_time=0.5, **options))
                for options in CLIENT_OPTIONS
            ]
            self._begun = self._loop.time()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._submit(clients))
                for title, target, faults in self._schedules:
                    group.create_task(self._befall(title, target, faults))
            await asyncio.wait([asked.job for asked in self.outcome.jobs if asked.job], timeout=END_WITHIN)
            self.outcome.seconds = self._loop.time() - self._begun
            self.outcome.books = [words for client in clients for words in check_books(client)]
            for worker in self.workers:
                await worker.end(signal.SIGTERM)  # what still runs for nobody is written down, too
        for worker in self.workers:
            self.outcome.ran += worker.read_ledger()
        return self.outcome

    async def _submit(self, clients: list[Client]) -> None:
        """Submit the jobs, evenly in the time that there is."""
        jobs = self.outcome.jobs
        for number, asked in enumerate(jobs):
            due = self._begun + number * self._seconds / len(jobs)
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            asked.submit(clients[number % len(clients)], self._begun)

    async def _befall(self, title: str, target: Any, faults: list[Fault]) -> None:
        """Do to a target what is due to it, one after the other."""
        for fault in faults:
            await asyncio.sleep(fault.wait)
            begun_at = self._loop.time() - self._begun
            await FAULTS[fault.name](target, fault)
            if fault.name in WIRE_FAULTS:
                await target.heal()
            self.outcome.faults.append(Befallen(title, fault.name, begun_at, self._loop.time() - self._begun))


def check_books(client: Client) -> list[str]:
    """See that the counters of a client whose jobs have all ended add up."""
    statistics = client.statistics()
    ended = statistics.completed + statistics.failed + statistics.cancelled
    if statistics.outstanding or statistics.submitted != ended:
        return [f"the counters of a client do not add up: {statistics}"]
    return []
