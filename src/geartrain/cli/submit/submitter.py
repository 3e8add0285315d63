"""Submits jobs, with a limit on outstanding ones, and handles the outcome of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.handles import format_handle
from geartrain.cli.messages import describe_error
from geartrain.cli.submit.output import JobOutput, ResultPrinter
from geartrain.cli.submit.progress import ProgressDisplay
from geartrain.cli.workload_source import MAX_WORKLOAD
from geartrain.client import Client
from geartrain.client.job import Job
from geartrain.client.task import TaskOptions
from geartrain.errors import GearmanError, NoServersError

__all__ = ["Submitter"]


class Submitter:
    """
    Submits jobs and prints their results in the order of the workloads.

    Args:
        client: Submits the jobs.
        functions: Each workload is submitted to each of these.
        options: Options of every task.
        limit: The maximum number of outstanding jobs.
        printer: Prints the results, or for background jobs the handles.
        progress: Shows the progress.
        label: Prefix each line of output with the function name.
    """

    def __init__(
        self,
        client: Client,
        functions: Sequence[str],
        options: TaskOptions,
        *,
        limit: int,
        printer: ResultPrinter,
        progress: ProgressDisplay,
        label: bool,
    ) -> None:
        self._client = client
        self._functions = functions
        self._options = options
        self._printer = printer
        self._progress = progress
        self._label = label
        self._slots = asyncio.Semaphore(limit)
        self._outstanding = 0
        self._ended = 0
        self._submit_status = SUCCESS  # FAILED if a workload could not be submitted

    async def run(self, workloads: AsyncIterator[bytes]) -> int:
        """
        Submit all workloads and return the exit status, which says whether all jobs succeeded.

        Raises:
            NoServersError: If no job server can be reached. The remaining workloads are not submitted.
            WorkloadError: If the workloads cannot be read.
        """
        queue: asyncio.Queue[_SubmittedJob | None] = asyncio.Queue()
        submitting = asyncio.create_task(self._submit_all(workloads, queue))
        status = SUCCESS
        try:
            while (submitted := await queue.get()) is not None:
                status = max(status, await self._collect(submitted))
            await submitting
        finally:
            self._progress.hide()
            submitting.cancel()
            await asyncio.wait([submitting])
            _abandon(queue)
        return max(status, self._submit_status)

    async def _submit_all(self, workloads: AsyncIterator[bytes], queue: asyncio.Queue[_SubmittedJob | None]) -> None:
        try:
            async for workload in workloads:
                for function in self._functions:
                    await self._slots.acquire()
                    try:
                        queue.put_nowait(self._submit(function, workload))
                    except ValueError as error:
                        self._report_rejected(function, error)
        finally:
            queue.put_nowait(None)

    def _submit(self, function: str, workload: bytes) -> _SubmittedJob:
        if len(workload) > MAX_WORKLOAD:  # it was cut off, so its size is not known
            raise ValueError(f"the workload exceeds {MAX_WORKLOAD} bytes")
        label = f"{function}: ".encode("utf-8", "surrogateescape") if self._label else b""
        output = JobOutput(self._printer, label)
        options: TaskOptions = {
            **self._options,
            "on_data": output.write,
            "on_warning": self._warn,
            "on_status": self._progress.show_status,
        }
        submitted = _SubmittedJob(self._client.submit(function, workload, **options), output)
        self._outstanding += 1
        self._progress.show_count(self._ended, self._outstanding)
        return submitted

    async def _collect(self, submitted: _SubmittedJob) -> int:
        """Wait for a job to end, print its result and return the resulting exit status."""
        submitted.output.start_printing()
        status = SUCCESS
        try:
            result = await submitted.job
        except NoServersError:
            raise
        except GearmanError as error:
            self._progress.hide()
            print_error(f"geartrain: {describe_error(error)}")
            status = FAILED
        else:
            handle = submitted.job.handle if submitted.job.task.background else None
            submitted.output.write(format_handle(handle).encode() if handle else result)
            submitted.output.finish()
        self._slots.release()
        self._outstanding -= 1
        self._ended += 1
        return status

    def _report_rejected(self, function: str, error: ValueError) -> None:
        """Report a workload that cannot be submitted; the remaining ones still are."""
        self._progress.hide()
        print_error(f"geartrain: the job {function} was not submitted: {error}")
        self._submit_status = FAILED
        self._slots.release()

    def _warn(self, data: bytes) -> None:
        self._progress.hide()
        # print_error escapes newlines, so a worker cannot forge lines that look like geartrain's.
        print_error(data.removesuffix(b"\n").decode("utf-8", "surrogateescape"))


def _abandon(queue: asyncio.Queue[_SubmittedJob | None]) -> None:
    """Cancel the remaining jobs, and mark the errors of those that have already failed as retrieved."""
    while not queue.empty():
        submitted = queue.get_nowait()
        if submitted is not None and not submitted.job.cancel():
            submitted.job.exception()


@dataclass(frozen=True, slots=True)
class _SubmittedJob:
    job: Job
    output: JobOutput
