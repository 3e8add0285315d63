"""Submits jobs, a bounded number at a time, and sees to what comes of each."""

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
    Submits jobs and prints their results, in the order of the workloads.

    Args:
        client: What submits.
        functions: Each of them gets each workload.
        options: Of every task.
        limit: How many jobs may be outstanding.
        printer: Where results go; those of background jobs are their handles.
        meter: Shows how far it is.
        label: Begin each line of output with the name of the function.
    """

    def __init__(
        self,
        client: Client,
        functions: Sequence[str],
        options: TaskOptions,
        *,
        limit: int,
        printer: ResultPrinter,
        meter: ProgressDisplay,
        label: bool,
    ) -> None:
        self._client = client
        self._functions = functions
        self._options = options
        self._printer = printer
        self._meter = meter
        self._label = label
        self._slots = asyncio.Semaphore(limit)
        self._outstanding = 0
        self._ended = 0
        self._refused = SUCCESS  # FAILED if a workload could not be submitted

    async def run(self, workloads: AsyncIterator[bytes]) -> int:
        """
        Submit all, and return the exit status: whether all jobs succeeded.

        Raises:
            NoServersError: If no job server can be reached; no more is submitted then.
            WorkloadError: If the workloads cannot be read.
        """
        entries: asyncio.Queue[_Entry | None] = asyncio.Queue()
        feeding = asyncio.create_task(self._feed(workloads, entries))
        status = SUCCESS
        try:
            while (entry := await entries.get()) is not None:
                status = max(status, await self._collect(entry))
            await feeding
        finally:
            self._meter.hide()
            feeding.cancel()
            await asyncio.wait([feeding])
            _forget(entries)
        return max(status, self._refused)

    async def _feed(self, workloads: AsyncIterator[bytes], entries: asyncio.Queue[_Entry | None]) -> None:
        try:
            async for workload in workloads:
                for function in self._functions:
                    await self._slots.acquire()
                    try:
                        entries.put_nowait(self._submit(function, workload))
                    except ValueError as error:
                        self._refuse(function, error)
        finally:
            entries.put_nowait(None)

    def _submit(self, function: str, workload: bytes) -> _Entry:
        if len(workload) > MAX_WORKLOAD:  # its end has not been read
            raise ValueError(f"the workload exceeds {MAX_WORKLOAD} bytes")
        label = f"{function}: ".encode("utf-8", "surrogateescape") if self._label else b""
        output = JobOutput(self._printer, label)
        options: TaskOptions = {
            **self._options,
            "on_data": output.write,
            "on_warning": self._warn,
            "on_status": self._meter.show_status,
        }
        entry = _Entry(self._client.submit(function, workload, **options), output)
        self._outstanding += 1
        self._meter.show_count(self._ended, self._outstanding)
        return entry

    async def _collect(self, entry: _Entry) -> int:
        """Wait for a job's end, print its result, and return the exit status that it calls for."""
        entry.output.take_turn()
        status = SUCCESS
        try:
            result = await entry.job
        except NoServersError:
            raise
        except GearmanError as error:
            self._meter.hide()
            print_error(f"geartrain: {describe_error(error)}")
            status = FAILED
        else:
            handle = entry.job.handle if entry.job.task.background else None
            entry.output.write(format_handle(handle).encode() if handle else result)
            entry.output.end()
        self._slots.release()
        self._outstanding -= 1
        self._ended += 1
        return status

    def _refuse(self, function: str, error: ValueError) -> None:
        """Report a workload that cannot be submitted; the others are."""
        self._meter.hide()
        print_error(f"geartrain: the job {function} was not submitted: {error}")
        self._refused = FAILED
        self._slots.release()

    def _warn(self, data: bytes) -> None:
        self._meter.hide()
        # A line each, so that no worker can write lines that look like ours.
        print_error(data.removesuffix(b"\n").decode("utf-8", "surrogateescape"))


def _forget(entries: asyncio.Queue[_Entry | None]) -> None:
    """Drop the jobs whose results nobody wants any more, those that have failed meanwhile included."""
    while not entries.empty():
        entry = entries.get_nowait()
        if entry is not None and not entry.job.cancel():
            entry.job.exception()


@dataclass(frozen=True, slots=True)
class _Entry:
    job: Job
    output: JobOutput
