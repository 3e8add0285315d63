"""The jobs of a run: what is submitted, what the worker does with it, and what the client reported."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from geartrain import Client, Job, Task

PIECES: Final = 3  # chunks of WORK_DATA that the function `data` sends
CANCELLED_WITHIN: Final = 0.2  # seconds


class Kind(NamedTuple):
    """
    One kind of job.

    Attributes:
        share: How frequent it is, relative to the others.
        function: The worker's function.
        retries: The values from which its `retry_count` is chosen.
        options: Further options of the task.
        size: Minimum size of its workload, in bytes.
        merged: Whether it is submitted several times with the same unique.
        cancelled: Whether it is cancelled soon after its submission.
        must_complete: Whether it has enough retries to survive all faults.
        fails: Whether workers always fail it.
    """

    share: int
    function: str
    retries: tuple[int, ...] = (0, 1, 3)
    options: dict[str, Any] = {}
    size: int = 0
    merged: bool = False
    cancelled: bool = False
    must_complete: bool = False
    fails: bool = False


KINDS: Final = {
    "plain": Kind(35, "answer"),
    "large": Kind(2, "answer", size=100_000),
    "slow": Kind(8, "slow"),
    "data": Kind(10, "data"),
    "fail": Kind(8, "fail", (0, 1), fails=True),
    "raise": Kind(8, "raise", (0, 1), fails=True),
    "deadline": Kind(6, "slow", options={"timeout": 0.15}),
    "try-deadline": Kind(5, "slow", options={"try_timeout": 0.15}),
    "unique": Kind(8, "answer", merged=True),
    "slow-unique": Kind(3, "slow", merged=True),
    "background": Kind(4, "answer", options={"background": True}),
    "cancelled": Kind(3, "slow", cancelled=True),
}
LAST: Final = Kind(0, "answer", (8,), merged=True, must_complete=True)
# The jobs of a map; the beginning of a job's name says what the function does.
MAPPED: Final = {
    "answer": Kind(85, "as-named", (0, 2)),
    "slow": Kind(5, "as-named", (0, 2)),
    "fail": Kind(5, "as-named", (0, 2), fails=True),
    "raise": Kind(5, "as-named", (0, 2), fails=True),
}
FUNCTIONS: Final = tuple(dict.fromkeys(kind.function for kind in (*KINDS.values(), *MAPPED.values())))


def expected_result(workload: bytes) -> bytes:
    """Return the only correct result for a workload."""
    return workload[::-1]


def name_of(workload: bytes) -> str:
    """Return the name of the job in its workload; the rest is padding."""
    return workload.split(b" ", 1)[0].decode()


class MappedJob(asyncio.Future[bytes]):
    """
    The outcome that a map reported for one of its jobs.

    Attributes:
        tries: The maximum number of tries; a map does not report the actual number.
    """

    def __init__(self, tries: int) -> None:
        super().__init__()
        self.tries = tries


@dataclass(slots=True)
class JobRecord:
    """
    One submission, and what the client reported for it.

    Attributes:
        name: Shared by submissions that are to be merged.
        callbacks: The callbacks that were called, in order.
        pieces: The data of its WORK_DATA since the last retry.
        begun_at: When it was submitted, in seconds since the run began.
        ended_at: When it ended.
        ends: How often it ended.
    """

    name: str
    kind: Kind
    retry_count: int
    with_callbacks: bool
    cancel_after: float | None = None
    callbacks: list[str] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    job: Job | MappedJob | None = None
    begun_at: float = 0.0
    ended_at: float = 0.0
    ends: int = 0

    @property
    def workload(self) -> bytes:
        return (self.name + " ").encode().ljust(self.kind.size, b".")

    def make_task(self) -> Task:
        options: dict[str, Any] = {
            "on_created": lambda _: self.callbacks.append("created"),
            "on_data": self.pieces.append,
            "on_retry": self._retried,
            "on_exception": lambda _: self.callbacks.append("exception"),
            "on_complete": lambda _: self.callbacks.append("complete"),
            "on_fail": lambda _: self.callbacks.append("fail"),
        }
        return Task(
            self.kind.function,
            self.workload,
            unique=self.name if self.kind.merged else None,
            retry_count=self.retry_count,
            **self.kind.options,
            **(options if self.with_callbacks else {}),
        )

    def _retried(self, number: int) -> None:
        self.pieces.clear()
        self.callbacks.append(f"retry {number}")

    def submit(self, client: Client, begun: float) -> None:
        """Submit it; ``begun`` is when the run began."""
        job = client.add_task(self.make_task())
        self.follow(job, begun)
        if self.cancel_after is not None:
            timer = job.get_loop().call_later(self.cancel_after, job.cancel)
            job.add_done_callback(lambda _: timer.cancel())

    def follow(self, job: Job | MappedJob, begun: float) -> None:
        """Record when and how often it ends; it has just been submitted."""
        loop = job.get_loop()
        self.job, self.begun_at = job, loop.time() - begun

        def ended(_: object) -> None:
            self.ended_at = loop.time() - begun
            self.ends += 1

        job.add_done_callback(ended)

    def __str__(self) -> str:
        job = self.job
        assert job is not None
        end = "has not ended" if not job.done() else "cancelled" if job.cancelled() else repr(job.exception() or "done")
        return f"{self.name} ({self.begun_at:.2f} to {self.ended_at:.2f} s, try {job.tries}, {self.callbacks}): {end}"


def make_last_jobs(count: int, name: str) -> list[JobRecord]:
    """Return jobs for the end of a run."""
    return [JobRecord(f"{name}-{number}", LAST, LAST.retries[0], with_callbacks=True) for number in range(count)]


def draw_jobs(randomness: random.Random, count: int) -> list[JobRecord]:
    """Draw the jobs of a run."""
    jobs: list[JobRecord] = []
    shares = [kind.share for kind in KINDS.values()]
    merged: dict[str, str] = {}  # the name to use again, by kind
    while len(jobs) < count:
        (title,) = randomness.choices(list(KINDS), shares)
        kind = KINDS[title]
        name = f"{title}-{len(jobs)}"
        if kind.merged:
            name = merged.pop(title, name)
            if randomness.random() < 0.7:
                merged[title] = name
        record = JobRecord(name, kind, randomness.choice(kind.retries), title == "data" or randomness.random() < 0.5)
        if kind.cancelled:
            record.cancel_after = randomness.uniform(0, CANCELLED_WITHIN)
        jobs.append(record)
    return jobs
