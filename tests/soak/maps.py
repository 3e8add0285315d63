"""Maps whose jobs are sent together to one job server, checked against a ledger of the runs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from typing import Final

from geartrain import Client, GearmanError, JobExceptionError, JobFailedError, NoServersError, WorkerJob
from tests.soak.samples import MOST

SIZES: Final = (50, 300)  # jobs of a map
LIMITS: Final = (50, MOST)  # its limits of outstanding jobs
KINDS: Final = {"answer": 85, "slow": 5, "fail": 5, "raise": 5}  # relative frequencies
SLOW: Final = 0.1  # seconds


class Maps:
    """
    Makes the maps, and runs their jobs.

    The job server must not re-run a job that was lost with its worker (``gearmand -j 1``), so that each run belongs to
    exactly one submission.

    Attributes:
        running: Whether a map is running; the limits of the samples allow for only one.
        errors: The number of jobs that ended with an error that faults explain, by type.
        wrong: Errors that faults do not explain.
    """

    def __init__(self, rng: random.Random) -> None:
        self.running = False
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._rng = rng
        self._begun = 0
        self._ledger: dict[str, list[str]] = {}  # what was done, by job; only for maps that are running

    async def work(self, job: WorkerJob) -> bytes:
        """Do what the beginning of the job's name, which is its workload, says."""
        name = job.workload.decode()
        noted = self._ledger.get(name, [])  # an abandoned job may run after the end of its map
        noted.append("began")
        match name.partition("-")[0]:
            case "fail":
                raise JobFailedError("as it was asked to")
            case "raise":
                raise ValueError(name)
            case "slow":
                await asyncio.sleep(SLOW)
        noted.append("completed")
        return job.workload[::-1]

    async def map(self, client: Client, function: str) -> None:
        """Map some workloads; sometimes end the iteration early."""
        rng = self._rng
        self._begun += 1
        size, tries = rng.randint(*SIZES), rng.choice((1, 3))
        leave_at = rng.choice((None, None, rng.randint(1, size)))
        kinds = rng.choices(list(KINDS), list(KINDS.values()), k=size)
        names = [f"{kind}-{self._begun}-{number}" for number, kind in enumerate(kinds)]
        allowed = dict.fromkeys(names, 0)  # runs

        def submit() -> Iterator[str]:
            for name in names:
                allowed[name] = tries
                yield name

        self.running = True
        self._ledger.update((name, []) for name in names)
        ended = 0
        results = client.map(
            function, submit(), limit=rng.randint(*LIMITS), retry_count=tries - 1, return_exceptions=True
        )
        try:
            async with aclosing(results):
                async for result in results:
                    name = names[ended]
                    if isinstance(result, NoServersError):
                        allowed[name] = 0  # the error means that nothing was sent
                    self._judge(name, result)
                    ended += 1
                    if ended == leave_at:
                        break
        finally:
            self.running = False
            for name in names:
                runs = self._ledger.pop(name).count("began")
                if runs > allowed[name]:
                    self.wrong.append(f"{name} ran {runs} times, but at most {allowed[name]} were allowed")
        if ended != (leave_at or size):
            self.wrong.append(f"a map of {size} workloads yielded {ended} results")

    def _judge(self, name: str, result: bytes | Exception) -> None:
        if isinstance(result, bytes):
            right = result == name[::-1].encode() and "completed" in self._ledger[name]
        elif isinstance(result, JobExceptionError):
            right = name.startswith("raise") and result.data == f"ValueError: {name}".encode()
        else:
            right = isinstance(result, GearmanError)
            if not isinstance(result, JobFailedError):
                self.errors[type(result).__name__] += 1
        if not right:
            self.wrong.append(f"{name} ended with {result!r}")
