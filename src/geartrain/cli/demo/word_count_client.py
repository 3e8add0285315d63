"""The demo's client: submits a job per file, and kills a worker in the middle of one of them."""

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

__all__ = ["WordCountClient", "WordCountResult"]

_MAX_OUTSTANDING: Final = 8  # jobs; enough to keep the workers busy, few enough that a retry is visible soon
_RETRIES: Final = 3
_KILL_AT: Final = 1 / 3  # fraction of a file


@dataclass
class WordCountResult:
    """
    The word counts and statistics of a run.

    Attributes:
        words: The number of occurrences of each word.
        jobs: The number of files that were counted.
        failures: The number of files that could not be counted.
        requeued: How often a job server requeued a file because its worker was lost.
        resubmitted: How often the client resubmitted a file because its job had failed.
        seconds: The duration of the run.
    """

    words: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    failures: int = 0
    requeued: int = 0
    resubmitted: int = 0
    seconds: float = 0.0


class WordCountClient:
    """
    Submits files to the workers, and kills one worker in the middle of a file.

    Args:
        client: Submits the jobs.
        function: The function that the workers have registered.
        workers: The worker processes.
        screen: Shows the progress.
    """

    def __init__(self, client: Client, function: str, workers: WorkerProcesses, screen: Screen) -> None:
        self.result: WordCountResult = WordCountResult()
        self.client = client
        self.function = function
        self.workers = workers
        self.screen = screen

    async def run(self, files: Sequence[TextFile]) -> None:
        """Submit a job per file, a few at a time, and wait until all have ended."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        victim = _choose_victim(files)
        remaining = iter(files)

        async def submit_remaining() -> None:
            for file in remaining:
                await _FileJob(self, file, kill=file is victim).run()

        async with asyncio.TaskGroup() as group:
            for _ in range(_MAX_OUTSTANDING):
                group.create_task(submit_remaining())
        self.result.seconds = loop.time() - started


class _FileJob:
    """The job of one file and its callbacks."""

    def __init__(self, word_count: WordCountClient, file: TextFile, *, kill: bool) -> None:
        self._word_count = word_count
        self._screen = word_count.screen
        self._file = file
        self._kill = kill
        self._worker: DemoWorker | None = None  # the last one to start the job
        self._lost_at: float | None = None  # the progress when its worker was killed
        self._resubmitted = False  # since it was last started

    async def run(self) -> None:
        word_count, result = self._word_count, self._word_count.result
        try:
            workload = await asyncio.to_thread(self._file.path.read_bytes)
            response = await word_count.client.do(
                word_count.function,
                workload,
                retry_count=_RETRIES,
                on_data=self.on_started,
                on_status=self.on_status,
                on_retry=self.on_retry,
            )
            counts = _parse_counts(response)
        except NoServersError:
            raise
        except (GearmanError, OSError, ValueError, RecursionError) as error:
            self._screen.show_message(f"{self._file.name} was not counted: {error}", "red")
            result.failures += 1
        else:
            result.words.update(counts)
            result.jobs += 1
        if self._lost_at is not None:
            self._screen.show_message(f"{self._file.name} had been finished just before")
        self._screen.finish_file(str(self._worker))

    def on_started(self, pid: bytes) -> None:
        """Called with the single WORK_DATA that each worker sends when it starts the job: its process ID."""
        worker = self._word_count.workers.find(pid)
        if worker is None:
            return  # sent by some other worker of this function
        previous, self._worker = self._worker, worker
        self._screen.show_progress(str(self._worker), self._file.name, 0.0)
        self._lost_at = None
        if previous is not None:
            if not self._resubmitted:
                self._word_count.result.requeued += 1
            who = "the client submitted" if self._resubmitted else "the job server queued"
            self._screen.show_message(f"{self._file.name} is restarted by {self._worker}: {who} it again", "green")
        self._resubmitted = False

    def on_status(self, numerator: float, denominator: float) -> None:
        """Called with the progress of the worker."""
        worker = self._worker
        if worker is None or not denominator:
            return  # as in on_started()
        fraction = numerator / denominator
        self._screen.show_progress(str(worker), self._file.name, fraction)
        if self._kill and fraction >= _KILL_AT:
            self._kill = False
            self._lost_at = fraction
            self._word_count.workers.kill(worker)
            self._screen.show_message(
                f"{worker} was killed in the middle of {self._file.name}, {fraction:.0%} done", "yellow"
            )

    def on_retry(self, attempt: int) -> None:
        """Called when the client retries: the worker failed, or the job server gave up on the job."""
        self._resubmitted = True
        self._word_count.result.resubmitted += 1
        self._screen.show_message(f"{self._file.name} ended without a result; the client submits it again ({attempt})")


def _parse_counts(response: bytes) -> dict[str, int]:
    """Parse a result. Some other worker may have sent it, so it may be anything."""
    counts = json.loads(response)
    if not isinstance(counts, dict) or not all(type(times) is int for times in counts.values()):
        raise ValueError("the result is not a mapping of words to counts")
    return counts


def _choose_victim(files: Sequence[TextFile]) -> TextFile:
    """Choose the file during which a worker is killed: a long one that is neither among the first nor the last."""
    quarter = len(files) // 4
    return max(files[quarter : len(files) - quarter], key=lambda file: file.path.stat().st_size)
