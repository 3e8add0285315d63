"""A worker that runs a command for each job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from geartrain.cli.processes import kill_all_of, start_process
from geartrain.cli.words import describe_end
from geartrain.errors import JobFailedError
from geartrain.worker import WorkerJob

__all__ = ["CommandError", "CommandFunction"]

_FAIL: Final = 1  # the exit status that stands for WORK_FAIL, as in `gearman -w`
_MAX_LINE: Final = 64 * 1024 * 1024
_MAX_WORDS: Final = 64 * 1024  # bytes of standard error that go into a WORK_EXCEPTION: the last ones


class CommandError(Exception):
    """A command ended badly; the text is what it said on standard error, or else how it ended."""


@dataclass(frozen=True)
class CommandFunction:
    """
    What a worker offers: called with a job, it runs a command.

    The workload is the command's standard input, its standard output is the result. Exit status 0 completes the job, 1
    fails it, any other one, or a signal, is an exception. What it says on standard error appears on ours, too. It finds
    the job in its environment: GEARMAN_FUNCTION, GEARMAN_HANDLE, GEARMAN_UNIQUE, GEARMAN_SERVER.

    Attributes:
        command: The program and its arguments.
        lines: Send each line of output as WORK_DATA, as soon as it is there.
        keep_newline: With ``lines``: as it is, with its newline.
    """

    command: Sequence[str]
    lines: bool = False
    keep_newline: bool = False

    async def __call__(self, job: WorkerJob) -> bytes:
        """Run the command on a job; return its result, or raise what ends the job otherwise."""
        process = await start_process(
            *self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_MAX_LINE, env=_make_environment(job)
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(process, job.workload))
                said = group.create_task(_pass_on(process))
                result = group.create_task(self._collect(process, job))
            await process.wait()
        finally:
            await kill_all_of(process)  # if we were cancelled
        if process.returncode == _FAIL:
            raise JobFailedError(f"{self.command[0]} ended with exit status {_FAIL}")
        if process.returncode != 0:
            how = f"{self.command[0]} ended with {describe_end(await process.wait())}"
            raise CommandError(said.result().decode("utf-8", "replace").strip() or how)
        return result.result()

    async def _collect(self, process: Process, job: WorkerJob) -> bytes:
        assert process.stdout is not None, "it is a pipe"
        if not self.lines:
            return await process.stdout.read()
        async for line in process.stdout:
            job.send_data(line if self.keep_newline else line.removesuffix(b"\n"))
        return b""


async def _feed(process: Process, workload: bytes) -> None:
    assert process.stdin is not None, "it is a pipe"
    # A command may end, or close its input, without having read it all.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(workload)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _pass_on(process: Process) -> bytes:
    assert process.stderr is not None, "it is a pipe"
    words = b""
    while chunk := await process.stderr.read(_MAX_WORDS):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        words = (words + chunk)[-_MAX_WORDS:]
    return words


def _make_environment(job: WorkerJob) -> dict[str, str]:
    facts = {"FUNCTION": job.function, "HANDLE": job.handle, "UNIQUE": job.unique, "SERVER": job.server}
    return {**os.environ, **{f"GEARMAN_{name}": fact for name, fact in facts.items()}}
