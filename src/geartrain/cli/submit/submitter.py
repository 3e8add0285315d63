"""Submits jobs, with a limit on outstanding ones, and handles the outcome of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.submit.output import JobOutput, JobTitle
from geartrain.cli.submit.printer import ResultPrinter
from geartrain.cli.submit.progress import JobCounts, ProgressDisplay
from geartrain.cli.workload_source import MAX_WORKLOAD
from geartrain.client import Client
from geartrain.client.job import Job
from geartrain.client.task import TaskOptions
from geartrain.errors import GearmanError, NoServersError

__all__ = ["Submitter"]


class Submitter:
    """
    Submits jobs and prints their outcomes in the order of the workloads.

    Args:
        client: Submits the jobs.
        functions: Each workload is submitted to each of these.
        options: Options of every task.
        limit: The maximum number of outstanding jobs.
        unit: What the input consists of, such as ``line``; ``None`` if it is a single workload.
        make_output: Returns the output of a job.
        printer: Prints hints.
        progress: Shows the progress.
        hint_delay: Seconds until jobs without a worker are explained.
    """

    def __init__(
        self,
        client: Client,
        functions: Sequence[str],
        options: TaskOptions,
        *,
        limit: int,
        unit: str | None,
        make_output: Callable[[JobTitle], JobOutput],
        printer: ResultPrinter,
        progress: ProgressDisplay,
        hint_delay: float = 1.0,
    ) -> None:
        self._client = client
        self._functions = functions
        self._options = options
        self._unit = unit
        self._make_output = make_output
        self._printer = printer
        self._progress = progress
        self._hint_delay = hint_delay
        self._slots = asyncio.Semaphore(limit)
        self._counts = JobCounts()
        self._outstanding = dict.fromkeys(functions, 0)

    async def run(self, workloads: AsyncIterator[bytes]) -> int:
        """
        Submit all workloads and return the exit status, which says whether all jobs succeeded.

        Raises:
            NoServersError: If no job server can be reached. The remaining workloads are not submitted.
            WorkloadError: If the workloads cannot be read.
        """
        queue: asyncio.Queue[_Entry | None] = asyncio.Queue()
        background = [
            asyncio.create_task(self._submit_all(workloads, queue)),
            asyncio.create_task(self._hint_at_missing_workers()),
        ]
        status = SUCCESS
        try:
            while (entry := await queue.get()) is not None:
                status = max(status, await self._collect(entry))
            await background[0]
        finally:
            self._progress.hide()
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            _abandon(queue)
        return status

    async def _submit_all(self, workloads: AsyncIterator[bytes], queue: asyncio.Queue[_Entry | None]) -> None:
        number = 0
        try:
            async for workload in workloads:
                number += 1
                for function in self._functions:
                    await self._slots.acquire()
                    queue.put_nowait(self._submit(function, workload, number))
            self._counts.is_complete = True
        finally:
            queue.put_nowait(None)

    def _submit(self, function: str, workload: bytes, number: int) -> _Entry:
        title = JobTitle(function) if self._unit is None else JobTitle(function, number, self._unit)
        output = self._make_output(title)
        ended = asyncio.Event()

        def on_end(outcome: bytes | BaseException) -> None:
            ended.set()
            self._outstanding[function] -= 1
            self._counts.ended += 1
            self._counts.failed += isinstance(outcome, BaseException)
            self._progress.show_counts(self._counts)

        options: TaskOptions = {
            **self._options,
            "on_data": output.write,
            "on_warning": output.warn,
            "on_status": self._progress.show_status,
            "on_complete": on_end,
            "on_fail": on_end,
        }
        self._counts.submitted += 1
        try:
            if len(workload) > MAX_WORKLOAD:  # it was cut off, so its size is not known
                raise ValueError(f"the workload exceeds {MAX_WORKLOAD} bytes")
            job = self._client.submit(function, workload, **options)
        except ValueError as error:
            self._counts.ended += 1
            self._counts.failed += 1
            ended.set()
            return _Entry(output, ValueError(f"the job {function} was not submitted: {error}"), ended)
        self._outstanding[function] += 1
        self._progress.show_counts(self._counts)
        return _Entry(output, job, ended)

    async def _collect(self, entry: _Entry) -> int:
        """Wait for a job to end, print its outcome and return the resulting exit status."""
        output, job = entry.output, entry.job
        output.start_printing()
        await entry.ended.wait()  # a job is done before the callbacks for its last data and warnings have run
        if isinstance(job, ValueError):
            output.fail(job, None)
            self._slots.release()
            return FAILED
        try:
            result = await job
        except NoServersError:
            raise
        except GearmanError as error:
            output.fail(error, job.handle)
            return FAILED
        finally:
            self._slots.release()
        if job.task.background:
            output.accept(await job.created())
        else:
            output.complete(result, job.handle)
        return SUCCESS

    async def _hint_at_missing_workers(self) -> None:
        """Explain why nothing happens if jobs are still outstanding after a while and no worker is there for them."""
        await asyncio.sleep(self._hint_delay)
        for function in self._functions:
            if not self._outstanding[function]:
                continue
            with contextlib.suppress(GearmanError):  # the jobs report it
                if await self._client.workers_for(function) == 0:
                    self._printer.print_message(
                        f"geartrain: no worker is registered for {function}; its jobs wait until one is"
                    )


def _abandon(queue: asyncio.Queue[_Entry | None]) -> None:
    """Cancel the remaining jobs, and mark the errors of those that have already failed as retrieved."""
    while not queue.empty():
        entry = queue.get_nowait()
        if entry is not None and isinstance(entry.job, Job) and not entry.job.cancel():
            entry.job.exception()


@dataclass(frozen=True, slots=True)
class _Entry:
    """
    A job and its output.

    Attributes:
        job: The job, or the reason why it was not submitted.
        ended: Set when it has ended and all of its output has arrived.
    """

    output: JobOutput
    job: Job | ValueError
    ended: asyncio.Event
