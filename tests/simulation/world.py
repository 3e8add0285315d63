"""Real clients, real workers and real job servers in a simulated network; one seed decides everything."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any
from unittest import mock

from geartrain import Client, JobFailedError, JobServer, RemoteProtocolError, Worker, WorkerJob, connect
from geartrain.protocol.server.broker import DEFAULT_MAX_BACKLOG
from geartrain.protocol.server.job_queue import ServerJob
from tests.simulation.applications import MAX_UPDATES, JobRecord, User
from tests.simulation.faults import HEARTBEAT, Faults
from tests.simulation.judge import CONNECT_TIMEOUT, Judge
from tests.simulation.loop import DeadlockError, SimulatedLoop, home
from tests.simulation.network import Network, Wire
from tests.simulation.outcomes import draw_sizes, result_of, split_outcome
from tests.simulation.servers import broker_of, peers_of
from tests.simulation.traffic import MAX_OPEN_PROBES, Traffic

FLOOD = 60  # updates of one job, sent as fast as the connection takes them
BOUND = 600.0  # seconds within which everything must end once there are no more faults

# Limits of the library that a world with a few dozen jobs would never reach, and their values in a world.
SMALL_LIMITS = {
    "geartrain.client.updates.MAX_UPDATES": MAX_UPDATES,
    "geartrain.client.session._MAX_OPEN_PROBES": MAX_OPEN_PROBES,
}


class World:
    """
    One run.

    Args:
        seed: Decides everything.
        faults: Whether there are faults that lose connections. Even without them, half of the worlds have full queues,
            forgotten jobs and slow connections.

    Attributes:
        occurred: How often each event of interest occurred.
        forgotten: When a server forgot a job, by the connection of the client that waits for it and the job's handle.
        forgotten_names: How often a job of this name was forgotten.
    """

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.loop = SimulatedLoop()
        self.occurred: Counter[str] = Counter()
        self.sizes = draw_sizes(self.rng)
        self.traffic = Traffic(self.loop, self.occurred, self.sizes.client)
        self.network = Network(self.loop, self.rng, self.traffic.tap, self.occurred)
        self.network.calm = not faults
        self.loop.network = self.network
        self.history: list[str] = []
        self.judge = Judge(self)
        self.servers: dict[str, JobServer | None] = {}
        self.workers: dict[str, asyncio.Task[None]] = {}  # by the host that they connect from
        self.users: list[User] = []
        self.records: list[JobRecord] = []
        self.outcomes: dict[str, str] = {}  # by name
        self.allowed: Counter[str] = Counter()  # submissions by name
        self.ran: Counter[str] = Counter()
        self.silent_since: dict[Wire, float] = {}
        self.forgotten: dict[tuple[Wire, bytes], float] = {}
        self.forgotten_names: Counter[str] = Counter()
        self.gentle = self.rng.random() < 0.5
        self.queue_limit = self.rng.choice((0, 0, 3, 6, 12)) if faults or self.gentle else 0
        self.max_backlog = self.rng.choice((DEFAULT_MAX_BACKLOG, 1000)) if faults else DEFAULT_MAX_BACKLOG
        self.network.max_backlog = self.max_backlog
        self.disconnects = 0
        self.violations = 0
        self._begun: set[asyncio.Task[None]] = set()
        self._worker_count = 0

    def note(self, text: str) -> None:
        """Add a line to the history."""
        self.history.append(f"{self.loop.time():10.4f} {text}")

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task of a user; it must end without an error."""
        self._begun.add(asyncio.create_task(work))

    def run(self) -> None:
        """Run to the end, and check that all promises were kept."""
        state = random.getstate()
        random.seed(self.rng.random())  # for the library's own random choices
        asyncio.set_event_loop(self.loop)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(mock.patch.object(connect, "open_socket", self.network.open_socket))
                for name, limit in SMALL_LIMITS.items():
                    stack.enter_context(mock.patch(name, limit))
                self.loop.run_until_complete(self._run(self.judge))
                self.judge.judge()
        finally:
            self._end()
            asyncio.set_event_loop(None)
            self.loop.close()
            random.setstate(state)

    def _end(self) -> None:
        """Cancel the tasks that a broken promise has left running."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            with contextlib.suppress(DeadlockError):
                self.loop.run_until_complete(asyncio.wait(left, timeout=BOUND))

    async def _run(self, judge: Judge) -> None:
        names = [f"10.0.0.{n}" for n in range(1, self.rng.randint(1, 3) + 1)]
        for name in names:
            if not self.faults or self.rng.random() < 0.9:
                await self.start_server(name)
            else:
                self.servers[name] = None
                self.note(f"server {name} is down from the start")
        for _ in range(self.rng.randint(1, 3)):
            self.start_worker()
        self.users += [User(self, self._make_client(number), number) for number in range(self.rng.randint(1, 2))]
        faults = Faults(self)
        actors = [user.run() for user in self.users]
        if self.faults:
            actors.append(faults.run())
        elif self.gentle:
            actors.append(faults.run_gently())
        auditor = asyncio.create_task(judge.audit())
        await asyncio.gather(*actors)
        await self._heal(faults)
        await self._wait_for_all()
        auditor.cancel()
        await asyncio.wait((auditor,))
        if not auditor.cancelled():
            auditor.result()
        await self._close()

    def _make_client(self, number: int) -> Client:
        return Client(
            list(self.servers),
            connect_timeout=CONNECT_TIMEOUT,
            heartbeat=HEARTBEAT,
            dead_time=self.rng.choice((1.0, 10.0)),
            max_outstanding=self.rng.choice((None, None, 3)),
            max_packet_size=self.sizes.client,
            balance=self.rng.choice(("random", "round-robin", "least-outstanding", "first")),
            on_connected=lambda server: self.note(f"client {number} is connected to {server}"),
            on_disconnected=lambda server, error: self._disconnected(number, server, error),
        )

    def _disconnected(self, number: int, server: str, error: Exception | None) -> None:
        self.note(f"client {number} has lost {server}: {error}")
        if isinstance(error, RemoteProtocolError):
            assert self.violations, f"no server broke the protocol, but the client reported: {error}"
            self.violations -= 1

    async def start_server(self, name: str) -> None:
        """Start a job server, whose handles start from 1."""
        server = JobServer(
            name,
            4730,
            handle_prefix=f"H:{name}",
            clock=self.loop.time,
            max_backlog=self.max_backlog,
            max_packet_size=self.sizes.server,
        )
        await server.start()
        self.servers[name] = server
        self.note(f"server {name} starts")
        self.limit_queues(self.queue_limit)

    def limit_queues(self, limit: int) -> None:
        """Limit the queues of all servers to ``limit`` jobs; 0 means no limit."""
        self.note(f"queues hold {limit or 'any number of'} jobs")
        for server in self.servers.values():
            if server is not None:
                broker_of(server).queue.ensure_function(b"work").limits = [limit] * 3

    def forget(self, server: JobServer, job: ServerJob) -> None:
        """Make a server forget a job that clients wait for, without notifying anyone."""
        name = job.workload.decode().partition(" ")[0]
        self.note(f"{name} is forgotten: {job.handle!r}")
        self.forgotten_names[name] += 1
        wires = peers_of(server)
        for client in job.clients:
            if (wire := wires[client].other) is not None:
                self.forgotten[wire, job.handle] = self.loop.time()
        broker_of(server).queue.remove_job(job)

    def start_worker(self) -> None:
        """Start a worker on a new host."""
        worker = Worker(
            list(self.servers),
            concurrency=self.rng.randint(1, 4),
            connect_timeout=CONNECT_TIMEOUT,
            max_packet_size=self.sizes.worker,
            # Without faults no worker has to poll for jobs, so a missed wake-up is not hidden by polling.
            heartbeat=HEARTBEAT if self.faults else None,
            regrab_interval=1.0 if self.faults else 10_000.0,
        )
        worker.function("work")(self._work)
        self._worker_count += 1
        host = f"worker-{self._worker_count}"
        token = home.set(host)
        self.workers[host] = asyncio.create_task(worker.run())
        home.reset(token)
        self.note(f"{host} starts")

    async def _work(self, job: WorkerJob) -> bytes:
        name, outcome, *_ = job.workload.decode().split(" ")
        what, size = split_outcome(outcome)
        self.ran[name] += 1
        self.note(f"{name} runs as {job.handle}")
        await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.5, 3.0, 20.0)) * self.rng.random())
        if what == "talk":
            for number in range(1, self.rng.randint(1, 5) + 1):
                await job.drain()
                job.send_data(f"part {number} of {name}")
                job.send_status(number, 5)
                await asyncio.sleep(self.rng.random())
        elif what == "flood":
            for number in range(1, FLOOD + 1):
                await job.drain()
                job.send_data(f"part {number} of {name}")
                await asyncio.sleep(0.0)
        elif what == "large-data":
            job.send_data(f"part 1 of {name} ".ljust(size, "."))
        elif what == "large-exception":
            raise RuntimeError(name.ljust(size - len("RuntimeError: "), "."))
        elif what == "fail":
            raise JobFailedError
        elif what == "raise":
            raise RuntimeError(name)
        return result_of(name, outcome)

    # Shutdown.

    async def _heal(self, faults: Faults) -> None:
        self.note("all faults are over")
        self.network.calm = True
        self.network.unreachable.clear()
        # Silent connections are finally reset, as by TCP keep-alive: a job server has no other way to detect them.
        for wire in list(self.network.wires):
            wire.slow = False
            if wire.silenced or wire.other is None or wire.other.dead:
                self.network.reset(wire)
        await faults.restart_servers()
        for user in self.users:
            user.client.set_job_servers(list(self.servers))

    async def _wait_for_all(self) -> None:
        deadline = self.loop.time() + BOUND
        while pending := self._pending():
            assert self.loop.time() < deadline, f"not ended: {pending}"
            await asyncio.wait(pending, timeout=BOUND)
        for task in self._begun:
            task.result()
        for user in self.users:
            await user.client.drain(timeout=1)
        if not self.faults:
            await asyncio.sleep(100)  # background jobs have ended for their client, but may not have run yet

    def _pending(self) -> list[asyncio.Future[Any]]:
        all_of_them: list[asyncio.Future[Any]] = [record.job for record in self.records if record.job is not None]
        all_of_them += self._begun
        return [future for future in all_of_them if not future.done()]

    async def _close(self) -> None:
        for user in self.users:
            for name, counts in user.client.statistics().servers.items():
                ended = counts.completed + counts.failed + counts.cancelled
                assert counts.submitted == ended, f"the counters of {name} do not add up: {counts}"
            await user.client.aclose()
        for worker in self.workers.values():
            worker.cancel()
        await asyncio.wait(self.workers.values())
        for name, server in self.servers.items():
            if server is not None:
                self.servers[name] = None
                await server.aclose()
        await asyncio.sleep(15)  # until everything on its way has arrived
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"asyncio tasks are left: {left}"
