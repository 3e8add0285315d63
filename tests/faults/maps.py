"""The maps of a run: plain jobs that one client sends together to one job server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from geartrain import Client, NoServersError
from tests.faults.jobs import MAPPED, JobRecord, MappedJob

LIMITS: Final = (50, 200)  # the range of the number of jobs that may be outstanding
SIZES: Final = (50, 400)  # the range of the number of jobs of a map
PAUSES: Final = (0.0, 0.0, 0.005)  # seconds after each result; the longest makes a map outlast a fault
LULL: Final = (
    0.02  # seconds instead after a job that could not be sent, so that an outage does not use up all workloads
)


@dataclass
class Map:
    """
    One map.

    Attributes:
        jobs: One for each workload, in order.
        limit: How many of them may be outstanding.
        retry_count: The same for each of them.
        pause: Seconds after each result.
        leave_at: The number of results after which the iteration ends early; ``None`` if it does not.
    """

    jobs: list[JobRecord]
    limit: int
    retry_count: int
    pause: float
    leave_at: int | None

    async def run(self, client: Client, submitted: list[JobRecord], begun: float) -> None:
        """Map, and record the result of each job; the jobs that were submitted are appended to ``submitted``."""
        ended = 0
        results = client.map(
            self.jobs[0].kind.function,
            self._submit(submitted, begun),
            limit=self.limit,
            retry_count=self.retry_count,
            return_exceptions=True,
        )
        async with aclosing(results):
            async for result in results:
                self._end(self.jobs[ended], result)
                ended += 1
                if ended == self.leave_at:
                    break
                await asyncio.sleep(LULL if isinstance(result, NoServersError) else self.pause)
        assert ended == (self.leave_at or len(self.jobs)), (
            f"a map yielded {ended} results for {len(self.jobs)} workloads"
        )
        for record in self.jobs[ended:]:
            if record.job is not None:
                record.job.cancel()

    def _submit(self, submitted: list[JobRecord], begun: float) -> Iterator[bytes]:
        for record in self.jobs:
            record.follow(MappedJob(self.retry_count + 1), begun)
            submitted.append(record)
            yield record.workload

    def _end(self, record: JobRecord, result: bytes | Exception) -> None:
        job = record.job
        assert isinstance(job, MappedJob), "a map yielded a result before it read the workload"
        if isinstance(result, Exception):
            if isinstance(result, NoServersError):
                job.tries = 1  # the error means that nothing was sent
            job.set_exception(result)
        else:
            job.set_result(result)


def draw_maps(randomness: random.Random, count: int) -> list[Map]:
    """Draw maps with ``count`` jobs in total."""
    maps: list[Map] = []
    shares = [kind.share for kind in MAPPED.values()]
    while count > 0:
        size = min(randomness.randint(*SIZES), count)
        count -= size
        retry_count = randomness.choice(MAPPED["answer"].retries)
        leave_at = randomness.choice((None, None, randomness.randint(1, size)))
        jobs = []
        for number, what in enumerate(randomness.choices(list(MAPPED), shares, k=size)):
            kind = MAPPED[what]._replace(cancelled=leave_at is not None)
            jobs.append(JobRecord(f"{what}-map-{len(maps)}-{number}", kind, retry_count, with_callbacks=False))
        maps.append(Map(jobs, randomness.randint(*LIMITS), retry_count, randomness.choice(PAUSES), leave_at))
    return maps
