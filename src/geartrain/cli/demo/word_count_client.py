"""The demo's client: a job for each file, what becomes of it, and the worker that is killed in the middle of one."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from geartrain.cli.demo.screen import Screen
from geartrain.cli.demo.text_files import TextFile
from geartrain.cli.demo.worker_processes import DemoWorker, WorkerProcesses
from geartrain.client import Client
from geartrain.errors import GearmanError, NoServersError

__all__ = ["Outcome", "WordCountClient"]

_WINDOW: Final = 8  # jobs outstanding: enough to keep the workers busy, few enough to see a retry soon
_RETRIES: Final = 3
_KILL_AT: Final = 1 / 3  # of a file


@dataclass
class Outcome:
    """
    What came of it all.

    Attributes:
        words: How often each word occurs.
        jobs: Files that were counted.
        failures: Files that were not.
        requeued: Times that a job server gave a file to another worker, because the one that had it was gone.
        resubmitted: Times that the client submitted a file again, because the job server had given it up.
        seconds: How long it took.
    """

    words: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    failures: int = 0
    requeued: int = 0
    resubmitted: int = 0
    seconds: float = 0.0


class WordCountClient:
    """
    Has workers count the words of files, and kills one of them in the middle of a file.

    Args:
        client: Submits the jobs.
        function: What the workers offer.
        workers: The worker processes.
        screen: Is told what happens.
    """

    def __init__(self, client: Client, function: str, workers: WorkerProcesses, screen: Screen) -> None:
        self.outcome: Outcome = Outcome()
        self.client = client
        self.function = function
        self.workers = workers
        self.screen = screen

    async def run(self, files: Sequence[TextFile]) -> None:
        """Submit a job per file, a few at a time, and return when all have ended."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        victim = _choose_victim(files)
        waiting = iter(files)

        async def submit() -> None:
            for file in waiting:
                await _FileJob(self, file, kill=file is victim).run()

        async with asyncio.TaskGroup() as group:
            for _ in range(_WINDOW):
                group.create_task(submit())
        self.outcome.seconds = loop.time() - begin


class _FileJob:
    """One file's job, and what its callbacks hear of it."""

    def __init__(self, count: WordCountClient, file: TextFile, *, kill: bool) -> None:
        self._count = count
        self._screen = count.screen
        self._file = file
        self._kill = kill
        self._worker: DemoWorker | None = None  # who began it last
        self._lost_at: float | None = None  # how far it had come when its worker was killed
        self._resubmitted = False  # since it was begun last

    async def run(self) -> None:
        count, outcome = self._count, self._count.outcome
        try:
            workload = await asyncio.to_thread(self._file.path.read_bytes)
            result = await count.client.do(
                count.function,
                workload,
                retry_count=_RETRIES,
                on_data=self.on_started,
                on_status=self.on_status,
                on_retry=self.on_retry,
            )
            counts = _read_counts(result)
        except NoServersError:
            raise
        except (GearmanError, OSError, ValueError, RecursionError) as error:
            self._screen.show_message(f"{self._file.name} was not counted: {error}", "red")
            outcome.failures += 1
        else:
            outcome.words.update(counts)
            outcome.jobs += 1
        if self._lost_at is not None:
            self._screen.show_message(f"{self._file.name} had been finished just before that")
        self._screen.finish_file(str(self._worker))

    def on_started(self, pid: bytes) -> None:
        """Hear who began: the first and only WORK_DATA of each worker that got the job."""
        worker = self._count.workers.find(pid)
        if worker is None:
            return  # somebody else has offered the function, or sent this
        before, self._worker = self._worker, worker
        self._screen.show_progress(str(self._worker), self._file.name, 0.0)
        self._lost_at = None
        if before is not None:
            if not self._resubmitted:
                self._count.outcome.requeued += 1
            who = "the client submitted" if self._resubmitted else "the job server queued"
            self._screen.show_message(f"{self._file.name} is begun anew by {self._worker}: {who} it again", "green")
        self._resubmitted = False

    def on_status(self, numerator: float, denominator: float) -> None:
        """Hear how far the worker has come."""
        worker = self._worker
        if worker is None or not denominator:
            return  # as in begun()
        fraction = numerator / denominator
        self._screen.show_progress(str(worker), self._file.name, fraction)
        if self._kill and fraction >= _KILL_AT:
            self._kill = False
            self._lost_at = fraction
            self._count.workers.kill(worker)
            self._screen.show_message(
                f"{worker} was killed in the middle of {self._file.name}, {fraction:.0%} done", "yellow"
            )

    def on_retry(self, attempt: int) -> None:
        """Hear that the client begins another try: the worker failed, or the job server gave the job up."""
        self._resubmitted = True
        self._count.outcome.resubmitted += 1
        self._screen.show_message(
            f"{self._file.name} was ended without a result; the client submits it again ({attempt})"
        )


def _read_counts(result: bytes) -> dict[str, int]:
    """Read a result; somebody else's worker may have sent anything."""
    counts = json.loads(result)
    if not isinstance(counts, dict) or not all(type(times) is int for times in counts.values()):
        raise ValueError("the result is not a table of words")
    return counts


def _choose_victim(files: Sequence[TextFile]) -> TextFile:
    """Choose the file in whose middle a worker is to be killed: a long one, and not among the first or the last."""
    quarter = len(files) // 4
    return max(files[quarter : len(files) - quarter], key=lambda file: file.path.stat().st_size)
