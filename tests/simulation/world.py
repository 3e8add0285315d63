"""Real clients, real workers and real job servers in a simulated network; one seed decides everything."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from geartrain import (
    Client,
    ClientDisconnectedError,
    ConnectionLostError,
    GearmanError,
    Job,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobServer,
    JobTimeoutError,
    NoServersError,
    RemoteProtocolError,
    ServerError,
    Task,
    Worker,
    WorkerJob,
)
from geartrain.client.link import Link
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import PACKETS, REQUEST, PacketType, split
from tests.simulation.loop import DeadlockError, SimulatedLoop
from tests.simulation.network import Network, Wire

HEARTBEAT = 5.0
CONNECT_TIMEOUT = 2.0
CALM_AFTER = 60.0  # seconds of faults
BOUND = 600.0  # seconds in which all has to end once there are no more faults

SUBMITS = {kind for kind, spec in PACKETS.items() if kind.name.startswith("SUBMIT_JOB")}


class OopsError(Exception):
    """What a callback raises; nobody but the loop's exception handler may hear of it."""


@dataclass
class Asked:
    """One job, what it should come to, and what it was told."""

    name: str
    outcome: str  # what the worker does with it
    task: Task
    job: Job | None = None
    told: list[str] = field(default_factory=list)
    asked_at: float = 0.0
    told_at: float = 0.0
    cancelled: bool = False


class World:
    """
    One run.

    Args:
        seed: Decides everything.
        faults: Whether anything goes wrong but what workers do on purpose.
    """

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.loop = SimulatedLoop()
        self.network = Network(self.loop, self.rng, self._tap)
        self.network.calm = not faults
        self.loop.network = self.network
        self.history: list[str] = []
        self.servers: dict[str, JobServer | None] = {}
        self.workers: list[asyncio.Task[None]] = []
        self.clients: list[Client] = []
        self.asked: list[Asked] = []
        self.submitted: Counter[str] = Counter()  # by name, as seen on the wire
        self.submitted_at: dict[str, float] = {}
        self.silent_since: dict[Wire, float] = {}
        self.ran: Counter[str] = Counter()
        self.disconnects = 0
        self._decoders: dict[Wire, Decoder] = {}

    def note(self, text: str) -> None:
        self.history.append(f"{self.loop.time():10.4f} {text}")

    def run(self) -> None:
        """Run to the end, and see that all promises were kept."""
        state = random.getstate()
        random.seed(self.rng.random())  # what the library leaves to chance
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._live())
            self._judge()
        finally:
            self._end()
            asyncio.set_event_loop(None)
            self.loop.close()
            random.setstate(state)

    def _end(self) -> None:
        """End what a broken promise has left running."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            with contextlib.suppress(DeadlockError):
                self.loop.run_until_complete(asyncio.wait(left, timeout=BOUND))

    # What happens.

    async def _live(self) -> None:
        names = [f"10.0.0.{n}" for n in range(1, self.rng.randint(1, 3) + 1)]
        for name in names:
            if not self.faults or self.rng.random() < 0.9:
                await self._start_server(name)
            else:
                self.servers[name] = None
                self.note(f"server {name} is down from the start")
        for _ in range(self.rng.randint(1, 3)):
            self._start_worker()
        for number in range(self.rng.randint(1, 2)):
            self.clients.append(self._make_client(number))
        actors = [asyncio.create_task(self._submit(client, number)) for number, client in enumerate(self.clients)]
        if self.faults:
            actors.append(asyncio.create_task(self._break_things()))
        auditor = asyncio.create_task(self._audit())
        await asyncio.gather(*actors)
        await self._heal()
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
            balance=self.rng.choice(("random", "round-robin", "least-outstanding", "first")),
            on_connected=lambda server: self.note(f"client {number} is connected to {server}"),
            on_disconnected=lambda server, error: self._disconnected(number, server, error),
        )

    def _disconnected(self, number: int, server: str, error: Exception | None) -> None:
        self.note(f"client {number} has lost {server}: {error}")
        assert not isinstance(error, RemoteProtocolError), f"nobody here breaks the protocol, but {error}"

    async def _start_server(self, name: str) -> None:
        server = JobServer(name, 4730, handle_prefix=f"H:{name}", clock=self.loop.time)
        await server.start()
        self.servers[name] = server
        self.note(f"server {name} starts")

    def _start_worker(self) -> None:
        worker = Worker(
            list(self.servers),
            concurrency=self.rng.randint(1, 4),
            connect_timeout=CONNECT_TIMEOUT,
            # Where all is well nobody has to look for jobs: whoever sleeps through a wake-up sleeps on.
            heartbeat=HEARTBEAT if self.faults else None,
            regrab_interval=1.0 if self.faults else 10_000.0,
        )
        worker.function("work")(self._work)
        self.workers.append(asyncio.create_task(worker.run()))
        self.note(f"worker {len(self.workers)} starts")

    async def _work(self, job: WorkerJob) -> bytes:
        name, _, outcome = job.workload.decode().partition(" ")
        self.ran[name] += 1
        self.note(f"{name} runs as {job.handle}")
        await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.5, 3.0, 20.0)) * self.rng.random())
        if outcome == "talk":
            for number in range(self.rng.randint(1, 5)):
                job.send_data(b"part of " + name.encode())
                job.send_status(number, 5)
                await asyncio.sleep(self.rng.random())
        if outcome == "fail":
            raise JobFailedError
        if outcome == "raise":
            raise RuntimeError(name)
        return b"result of " + name.encode()

    async def _submit(self, client: Client, number: int) -> None:
        for count in range(self.rng.randint(5, 40)):
            name = f"job-{number}-{count}"
            if self.rng.random() < 0.1:
                for _ in range(self.rng.randint(2, 4)):
                    self._ask(client, name, merged=True)
            else:
                self._ask(client, name)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.1, 2.0)) * self.rng.random())

    def _ask(self, client: Client, name: str, *, merged: bool = False) -> None:
        rng = self.rng
        outcome = rng.choice(("complete", "complete", "complete", "talk", "fail", "raise"))
        unique = rng.choice((None, None, None, "-", name)) if outcome != "talk" else None
        if merged:
            outcome, unique = "complete", name
        asked = Asked(name, outcome, Task("work", b""))
        asked.task = Task(
            "work",
            f"{name} {outcome}",
            unique=unique,
            background=rng.random() < 0.1,
            retry_count=rng.choice((0, 0, 1, 3)),
            timeout=rng.choice((None, None, 2.0, 30.0)),
            try_timeout=rng.choice((None, None, 5.0)),
            on_created=lambda handle: self._told(asked, "created"),
            on_data=lambda data: self._told(asked, "data", data),
            on_status=lambda numerator, denominator: self._told(asked, "status"),
            on_retry=lambda attempt: self._told(asked, f"retry {attempt}"),
            on_complete=lambda result: self._told(asked, "complete", result),
            on_fail=lambda error: self._told(asked, "fail", error),
        )
        self.asked.append(asked)
        asked.asked_at = self.loop.time()
        self.note(f"{name} is submitted: {outcome} {unique or ''}")
        asked.job = client.add_task(asked.task)
        if rng.random() < 0.05:
            self.loop.call_later(rng.random() * 2, self._cancel, asked)

    def _cancel(self, asked: Asked) -> None:
        if asked.job is None:
            return  # not quite submitted yet
        asked.cancelled |= asked.job.cancel()
        self.note(f"{asked.name} is cancelled: {asked.cancelled}")

    def _told(self, asked: Asked, what: str, fact: object = None) -> None:
        self.note(f"{asked.name} {what} {fact!r}")
        asked.told.append(what)
        asked.told_at = self.loop.time()
        if what == "data":
            assert fact == b"part of " + asked.name.encode(), f"{asked.name} was told another job's data: {fact!r}"
        if what in ("complete", "fail") and asked.task.timeout is not None:
            taken = self.loop.time() - asked.asked_at
            assert taken <= asked.task.timeout + 0.01, f"{asked.name} had {asked.task.timeout} s and took {taken}"
        if what == "complete":
            wanted = b"" if asked.task.background else b"result of " + asked.name.encode()
            assert fact == wanted, f"{asked.name} got another job's result: {fact!r}"
        self._call_back_in(asked)

    def _call_back_in(self, asked: Asked) -> None:
        """Do from within a callback what a callback may do."""
        chance = self.rng.random()
        if chance < 0.01:
            raise OopsError(asked.name)
        if chance < 0.02 and len(self.asked) < 200:
            self._ask(self.rng.choice(self.clients), f"{asked.name}-{len(self.asked)}")
        elif chance < 0.03:
            self._cancel(self.rng.choice(self.asked))
        elif chance < 0.032 and self.faults:
            self.clients[0].set_job_servers(list(self.servers))

    # What goes wrong.

    async def _break_things(self) -> None:
        faults = (
            self._reset_something,
            self._silence_something,
            self._crash_server,
            self._restart_servers,
            self._kill_worker,
            self._make_unreachable,
            self._change_servers,
            self._disconnect,
            self._pause_something,
        )
        while self.loop.time() < CALM_AFTER:
            await asyncio.sleep(self.rng.expovariate(0.3))
            await self.rng.choice(faults)()

    async def _reset_something(self) -> None:
        if (wire := self.network.pick()) is not None:
            self.note(f"cut: {wire.local} - {wire.remote}")
            self.network.reset(wire)

    async def _silence_something(self) -> None:
        if (wire := self.network.pick()) is not None:
            self.note(f"silence: {wire.local} -> {wire.remote}")
            wire.silenced = True
            for end in (wire, wire.other):
                if end is not None:
                    self.silent_since.setdefault(end, self.loop.time())

    async def _pause_something(self) -> None:
        """Hold up one direction for a while, as a stopped process or a full buffer does."""
        if (wire := self.network.pick()) is not None:
            seconds = self.rng.random() * 2 * HEARTBEAT
            self.note(f"pause for {seconds:.1f} s: {wire.local} -> {wire.remote}")
            wire.held = True
            self.loop.call_later(seconds, self.network.release, wire)

    async def _crash_server(self) -> None:
        name = self.rng.choice(list(self.servers))
        server = self.servers[name]
        if server is not None:
            self.note(f"server {name} crashes")
            self.servers[name] = None
            await server.aclose()

    async def _restart_servers(self) -> None:
        for name, server in self.servers.items():
            if server is None:
                await self._start_server(name)

    async def _kill_worker(self) -> None:
        self.note("a worker is killed")
        worker = self.workers.pop(self.rng.randrange(len(self.workers)))
        worker.cancel()
        await asyncio.wait((worker,))
        self._start_worker()

    async def _make_unreachable(self) -> None:
        name = self.rng.choice(list(self.servers))
        self.note(f"{name} cannot be reached for a while")
        self.network.unreachable[name] = None
        self.loop.call_later(self.rng.random() * 10, self.network.unreachable.pop, name, None)

    async def _change_servers(self) -> None:
        client = self.rng.choice(self.clients)
        names = [name for name in self.servers if self.rng.random() < 0.7] or list(self.servers)
        self.note(f"client {self.clients.index(client)} is given {names}")
        client.set_job_servers(names)

    async def _disconnect(self) -> None:
        if self.rng.random() < 0.2:
            client = self.rng.choice(self.clients)
            self.note(f"client {self.clients.index(client)} disconnects")
            self.disconnects += 1
            await client.disconnect_all()

    async def _heal(self) -> None:
        self.note("all is well again")
        self.network.calm = True
        self.network.unreachable.clear()
        # What was silent is cut at last, as TCP's keep-alive does: a job server has no other way to hear of it.
        for wire in list(self.network.wires):
            if wire.silenced or wire.other is None or wire.other.dead:
                self.network.reset(wire)
        await self._restart_servers()
        for client in self.clients:
            client.set_job_servers(list(self.servers))

    # What must hold all along.

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for client in self.clients:
                if client._pool is not None:
                    for link in client._pool.links:
                        self._audit_link(link)
            for asked in self.asked:
                if asked.job is not None and not asked.job.done():
                    self._audit_job(asked, asked.job)

    def _audit_link(self, link: Link) -> None:
        session = link.session
        has_room = session is not None and session.connection.writable and link.outstanding < link._max_outstanding
        assert not (link.waiting and has_room), f"{link.waiting} jobs wait at {link.name} although there is room"

    def _audit_job(self, asked: Asked, job: Job) -> None:
        """See that nothing waits on a wire that has been dead for long."""
        link = job._link
        if link is None or link.session is None or job._ticket is None:
            return
        wire: Any = link.session.connection._transport
        silent_since = self.silent_since.get(wire)
        if silent_since is not None:
            waited = self.loop.time() - max(silent_since, self.submitted_at.get(asked.name, math.inf), asked.told_at)
            assert waited < 3.5 * HEARTBEAT, f"{asked.name} has waited {waited} s on a dead wire to {link.name}"

    # The end.

    async def _wait_for_all(self) -> None:
        deadline = self.loop.time() + BOUND
        while pending := [asked.job for asked in self.asked if asked.job is not None and not asked.job.done()]:
            assert self.loop.time() < deadline, f"without an end: {pending}"
            await asyncio.wait(pending, timeout=BOUND)
        for client in self.clients:
            await client.drain(timeout=1)
        if not self.faults:
            await asyncio.sleep(100)  # background jobs have ended for their client, and are yet to be run

    async def _close(self) -> None:
        for client in self.clients:
            for name, counts in client.statistics().servers.items():
                ended = counts.completed + counts.failed + counts.cancelled
                assert counts.submitted == ended, f"the counters of {name} do not add up: {counts}"
            await client.aclose()
        for worker in self.workers:
            worker.cancel()
        await asyncio.wait(self.workers)
        for server in self.servers.values():
            if server is not None:
                await server.aclose()
        await asyncio.sleep(15)  # what is on its way arrives
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"asyncio tasks are left: {left}"

    def _judge(self) -> None:
        unhandled = [context for context in self.loop.unhandled if not isinstance(context.get("exception"), OopsError)]
        assert not unhandled, f"unhandled: {unhandled}"
        assert not self.loop.left(), f"timers are left: {self.loop.left()}"
        for asked in self.asked:
            self._judge_job(asked)
        if not self.faults:
            self._judge_calm()

    def _judge_job(self, asked: Asked) -> None:
        job, told, name = asked.job, asked.told, asked.name
        assert job is not None
        assert job.done(), f"{name} has not ended"
        ends = [what for what in told if what in ("complete", "fail")]
        assert len(ends) == 1, f"{name} ended {len(ends)} times: {told}"
        assert told[-1] == ends[0], f"{name} was told something after its end: {told}"
        allowed = sum(other.task.retry_count + 1 for other in self.asked if other.name == name)
        assert self.submitted[name] <= allowed, f"{name} was submitted {self.submitted[name]} times, not {allowed}"
        if job.cancelled():
            assert asked.cancelled, f"{name} was cancelled by nobody"
            return
        error = job.exception()
        assert (error is None) == (ends == ["complete"])
        if isinstance(error, NoServersError) and asked.task.retry_count == 0:
            merged = sum(other.name == name for other in self.asked) > 1
            assert merged or not self.ran[name], f"{name} was said not to have been sent, and ran"
        if error is not None:
            self._judge_error(asked, error)

    def _judge_error(self, asked: Asked, error: BaseException) -> None:
        assert isinstance(error, GearmanError), f"{asked.name} ended with {error!r}"
        if isinstance(error, JobFailedError):
            assert asked.outcome == "fail"
        elif isinstance(error, JobExceptionError):
            assert asked.outcome == "raise"
        elif isinstance(error, JobTimeoutError):
            assert asked.task.timeout is not None or asked.task.try_timeout is not None
        elif isinstance(error, ClientDisconnectedError):
            assert self.disconnects
        else:
            assert isinstance(error, ConnectionLostError | JobLostError | NoServersError | ServerError)
            assert self.faults, f"without a fault {asked.name} ended with {error!r}"

    def _judge_calm(self) -> None:
        names = Counter(asked.name for asked in self.asked)
        for asked in self.asked:
            if asked.cancelled or asked.task.timeout or asked.task.try_timeout or names[asked.name] > 1:
                continue
            tries = 1 if asked.outcome in ("complete", "talk") else asked.task.retry_count + 1
            if asked.task.background:
                tries = 1
            assert self.ran[asked.name] == tries, f"{asked.name} ran {self.ran[asked.name]} times"

    def _tap(self, wire: Wire, data: bytes) -> None:
        """Count submissions on their way to the servers."""
        if not wire.remote.endswith(":4730"):
            return
        decoder = self._decoders.setdefault(wire, Decoder(REQUEST))
        for kind, bodies in decoder.feed(data):
            if kind in SUBMITS:
                for body in bodies:
                    workload: Any = split(PacketType(kind), body)[-1]
                    name = workload.decode().partition(" ")[0]
                    self.submitted[name] += 1
                    self.submitted_at[name] = self.loop.time()
