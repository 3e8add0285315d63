"""Simulated applications: the jobs that they submit, and the callbacks that they receive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geartrain import Client, Job, JobData, JobTimeoutError, NoServersError, Task
from tests.simulation.outcomes import SIZES, draw_large, result_of, workload_of
from tests.support.inside import held_updates

if TYPE_CHECKING:
    from tests.simulation.world import World


MAX_UPDATES = 8  # held for one consumer before the connection stops reading
ONE_READ = 20  # updates that may come with the one that is too many


class OopsError(Exception):
    """Raised by a callback; must reach only the event loop's exception handler."""


@dataclass(eq=False)
class JobRecord:
    """One job, its expected outcome, and the callbacks that were called for it."""

    name: str
    outcome: str  # what the worker does with it
    task: Task
    job: Job | None = None
    callbacks: list[str] = field(default_factory=list)
    submitted_at: float = 0.0
    called_back_at: float = 0.0
    cancelled: bool = False
    parts: int = 0  # the number of the last part of the result that was received


class User:
    """An application with its own client."""

    def __init__(self, world: World, client: Client, number: int) -> None:
        self.world = world
        self.rng = world.rng
        self.client = client
        self.number = number

    async def run(self) -> None:
        """Submit jobs in all the ways that a client offers."""
        for count in range(self.rng.randint(5, 40)):
            name = f"job-{self.number}-{count}"
            chance = self.rng.random()
            if chance < 0.1:
                for _ in range(self.rng.randint(2, 4)):
                    self.submit_task(name, merged=True)
            elif chance < 0.15:
                self.world.begin(self._do(f"do-{self.number}-{count}"))
            elif chance < 0.2:
                self.world.begin(self._map(f"map-{self.number}-{count}"))
            elif chance < 0.21:
                self.world.begin(self._drain())
            else:
                self.submit_task(name)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.1, 2.0)) * self.rng.random())
            if self.rng.random() < 0.05:
                await asyncio.sleep(20.0 * self.rng.random())

    # Tasks with all their options.

    def submit_task(self, name: str, *, merged: bool = False) -> None:
        """Submit a task of this name; tasks that are to be merged share a unique."""
        rng, world = self.rng, self.world
        outcome = rng.choice(("complete", "complete", "complete", "talk", "fail", "raise"))
        if rng.random() < 0.03:
            outcome = "flood"
        elif rng.random() < 0.15:
            outcome = draw_large(rng)
            if len(workload_of(name, outcome)) > world.max_backlog:
                outcome = "complete"  # a larger one exceeds the backlog, so the server would disconnect every worker
        plain = outcome not in ("talk", "flood") and not outcome.startswith("large")
        unique = rng.choice((None, None, None, "-", name)) if plain else None
        if merged:
            outcome, unique = "complete", name
        workload = workload_of(name, outcome)
        if len(workload) > world.sizes.client:
            self._submit_oversize(workload)
            return
        world.outcomes[name] = outcome
        record = JobRecord(name, outcome, Task("work", b""))
        record.task = Task(
            "work",
            workload,
            unique=unique,
            background=rng.random() < 0.1 and not outcome.startswith("large"),
            retry_count=rng.choice((0, 0, 1, 3)),
            timeout=rng.choice((None, None, 2.0, 30.0)),
            try_timeout=rng.choice((None, None, 5.0)),
            on_created=lambda handle: self._on_callback(record, "created"),
            on_data=lambda data: self._on_callback(record, "data", data),
            on_status=lambda numerator, denominator: self._on_callback(record, "status"),
            on_retry=lambda attempt: self._on_callback(record, f"retry {attempt}"),
            on_complete=lambda result: self._on_callback(record, "complete", result),
            on_fail=lambda error: self._on_callback(record, "fail", error),
        )
        world.records.append(record)
        world.allowed[name] += record.task.retry_count + 1
        record.submitted_at = world.loop.time()
        world.note(f"{name} is submitted: {outcome} {unique or ''}")
        record.job = self.client.add_task(record.task)
        if rng.random() < 0.05:
            world.loop.call_later(rng.random() * 2, self._cancel, record)
        if rng.random() < (0.8 if outcome == "flood" else 0.1):
            world.begin(self._follow(record, record.job))

    def _submit_oversize(self, workload: str) -> None:
        """Check that a workload over the client's own limit is refused."""
        try:
            self.client.submit("work", workload)
        except ValueError:
            self.world.occurred["workload refused by the client"] += 1
        else:
            raise AssertionError(f"a workload of {len(workload)} bytes is over the limit, but was not refused")

    def _cancel(self, record: JobRecord) -> None:
        if record.job is None:
            return  # add_task has not returned yet
        record.cancelled |= record.job.cancel()
        self.world.note(f"{record.name} is cancelled: {record.cancelled}")

    def _on_callback(self, record: JobRecord, what: str, fact: object = None) -> None:
        world = self.world
        world.note(f"{record.name} {what}{'' if fact is None else f' {fact!r}'}")
        record.callbacks.append(what)
        record.called_back_at = world.loop.time()
        if isinstance(fact, bytes) and what == "data":
            self._judge_part(record, fact)
        if what in ("complete", "fail") and record.task.timeout is not None:
            taken = world.loop.time() - record.submitted_at
            assert taken <= record.task.timeout + 0.01, (
                f"{record.name} took {taken} s, but its timeout is {record.task.timeout}"
            )
        if what == "complete":
            wanted = b"" if record.task.background else result_of(record.name, record.outcome)
            assert fact == wanted, f"{record.name} got another job's result: {fact!r}"
        self._act_in_callback(record)

    def _judge_part(self, record: JobRecord, data: bytes) -> None:
        """Check that it is the next part of the result, or the first if another worker restarted the job."""
        _, part, _, name, *_ = data.decode().split(" ")
        assert name == record.name, f"{record.name} received another job's data: {data!r}"
        assert int(part) in (1, record.parts + 1), f"{record.name} received part {part} after part {record.parts}"
        record.parts = int(part)

    def _act_in_callback(self, record: JobRecord) -> None:
        """Act from within a callback: raise, submit, cancel, or change the servers."""
        world, chance = self.world, self.rng.random()
        if chance < 0.01:
            raise OopsError(record.name)
        if chance < 0.02 and len(world.records) < 200:
            self.rng.choice(world.users).submit_task(f"{record.name}-{len(world.records)}")
        elif chance < 0.03:
            self._cancel(self.rng.choice(world.records))
        elif chance < 0.032 and world.faults:
            self.client.set_job_servers(list(world.servers))

    async def _follow(self, record: JobRecord, job: Job) -> None:
        """Read the updates of a job until it ends, and check that they belong to it."""
        parts: list[bytes] = []
        updates = aiter(job)
        async for update in updates:
            held = held_updates(updates)
            assert held < MAX_UPDATES + ONE_READ, f"{held} updates of {record.name} are held for a slow consumer"
            if isinstance(update, JobData):
                parts.append(update.data)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.2, 1.0)))
        assert job.done(), f"the updates of {record.name} ended before it"
        for part in parts:
            assert part.split(b" ")[3] == record.name.encode(), f"{record.name} received another job's data: {part!r}"

    # Other ways to submit.

    async def _do(self, name: str) -> None:
        """Call `do`, and perhaps cancel it."""
        world = self.world
        retry_count = self.rng.choice((0, 2))
        outcome = self.rng.choice(("complete", "complete", "complete", *(f"large-result:{size}" for size in SIZES)))
        world.outcomes[name] = outcome
        world.allowed[name] += retry_count + 1
        workload = workload_of(name, outcome)
        doing = asyncio.create_task(
            self.client.do("work", workload, retry_count=retry_count, timeout=self.rng.choice((None, 3.0)))
        )
        world.note(f"{name} is awaited")
        await asyncio.wait((doing,), timeout=self.rng.choice((None, None, self.rng.random() * 5)))
        left_early = doing.cancel()
        await asyncio.wait((doing,))
        world.note(f"{name} is left early" if left_early else f"{name} has ended")
        if doing.cancelled():
            assert left_early, f"{name} was cancelled, but not by the application"
        else:
            self._judge_outcome(name, doing.exception() or doing.result(), retry_count)

    async def _map(self, name: str) -> None:
        """Map many workloads, and perhaps leave before all of them are done."""
        world, rng = self.world, self.rng
        names = [f"{name}-{number}" for number in range(rng.randint(1, 30))]
        outcomes = [rng.choice(("complete", "complete", "complete", "complete", "fail")) for _ in names]
        outcomes = [f"large-result:{rng.choice(SIZES)}" if rng.random() < 0.05 else each for each in outcomes]
        world.outcomes.update(zip(names, outcomes, strict=True))
        limit, retry_count, leave_at = (
            rng.randint(1, 8),
            rng.choice((0, 2)),
            rng.choice((None, None, rng.randint(0, 30))),
        )
        for each in names:
            world.allowed[each] += retry_count + 1
        pulled = 0

        def pull() -> Iterator[str]:
            nonlocal pulled
            for each, outcome in zip(names, outcomes, strict=True):
                pulled += 1
                assert pulled - place <= limit, f"{name} reads {pulled - place} ahead, but the limit is {limit}"
                yield workload_of(each, outcome)

        source = pull()
        results = self.client.map(
            "work",
            self._slowly(source) if rng.random() < 0.3 else source,
            limit=limit,
            return_exceptions=True,
            retry_count=retry_count,
            timeout=rng.choice((None, None, 40.0)),
        )
        patience = rng.choice((None, None, rng.random() * 3))
        world.note(f"{name} maps {len(names)} workloads, {limit} at a time")
        place = 0
        try:
            async with asyncio.timeout(patience):
                async for result in results:
                    world.note(f"{names[place]} ended with {result!r}")
                    self._judge_outcome(names[place], result, retry_count)
                    place += 1
                    if place == leave_at:
                        world.note(f"{name} is left after {place}")
                        return
        except TimeoutError:
            world.note(f"{name} is left by a timeout after {place}")
            return
        finally:
            await results.aclose()
        assert place == len(names), f"{name} yielded {place} results for {len(names)} workloads"

    def _judge_outcome(self, name: str, result: object, retry_count: int) -> None:
        """Check that a job ended as expected, and was run as often as expected."""
        world = self.world
        error = result if isinstance(result, Exception) else None
        if error is None:
            assert result == result_of(name, world.outcomes[name]), f"{name} got another job's result: {result!r}"
        else:
            sent = world.traffic.submitted[name] or world.ran[name]
            assert not (isinstance(error, NoServersError) and sent), f"{name} was reported as never sent, but was sent"
        world.judge.judge_cause(name, error)
        if not world.faults and not isinstance(error, JobTimeoutError):
            world.judge.judge_fates(name, retry_count, error)

    async def _drain(self) -> None:
        """Wait until nothing is outstanding."""
        self.world.note(f"client {self.number} drains")
        await self.client.drain()
        self.world.note(f"client {self.number} has drained")

    async def _slowly(self, source: Iterator[Any]) -> AsyncIterator[Any]:
        for item in source:
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.5)) * self.rng.random())
            yield item
