"""A worker that runs a command for each job."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.messages import describe_exit, first_error
from geartrain.cli.pipes import InputPipe, OutputPipe
from geartrain.cli.workload_source import split_stream
from geartrain.errors import JobFailedError
from geartrain.worker import WorkerJob

__all__ = ["CommandError", "CommandFunction"]

_FAIL: Final = 1  # the exit status that stands for WORK_FAIL, as in `gearman -w`
_MAX_ERROR_TEXT: Final = 64 * 1024  # bytes of standard error that go into a WORK_EXCEPTION: the last ones
_LINGER: Final = 0.5  # seconds that what a command has started gets to end after it, such as the rest of a pipeline


class CommandError(Exception):
    """A command ended badly; the text is what it said on standard error, or else how it ended."""


@dataclass(frozen=True)
class CommandFunction:
    """
    What a worker offers: called with a job, it runs a command.

    The workload is the command's standard input, its standard output is the result. Exit status 0 completes the job, 1
    fails it, any other one, or a signal, is an exception. What it says on standard error appears on ours, too. It finds
    the job in its environment: GEARMAN_FUNCTION, GEARMAN_HANDLE, GEARMAN_UNIQUE, GEARMAN_SERVER.

    What the command has started ends with it: processes that still run shortly after its end are killed, unless they
    have made themselves a session of their own.

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
        with ExitStack() as stack:
            stdin = stack.enter_context(InputPipe())
            stdout = stack.enter_context(OutputPipe())
            stderr = stack.enter_context(OutputPipe())
            status, result, said = await self._run(job, stdin, stdout, stderr)
        if status == _FAIL:
            raise JobFailedError(f"{self.command[0]} ended with exit status {_FAIL}")
        if status != 0:
            text = said.decode("utf-8", "replace").strip()
            raise CommandError(text or f"{self.command[0]} ended with {describe_exit(status)}")
        return result

    async def _run(
        self, job: WorkerJob, stdin: InputPipe, stdout: OutputPipe, stderr: OutputPipe
    ) -> tuple[int, bytes, bytes]:
        """Run the command; return its exit status, its result and the end of what it said on standard error."""
        try:
            process = ChildProcess(
                self.command,
                stdin=stdin.child_end,
                stdout=stdout.child_end,
                stderr=stderr.child_end,
                env=_make_environment(job),
            )
        except OSError as error:
            raise CommandError(f"{self.command[0]} cannot be started: {error.strerror}") from error
        for pipe in (stdin, stdout, stderr):
            pipe.close_child_end()
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(stdin.write(job.workload))
                said = group.create_task(_pass_on(stderr))
                result = group.create_task(self._collect(stdout, job))
                await process.wait_for_exit()
                writing.cancel()
                await asyncio.wait([said, result], timeout=_LINGER)
                status = await process.kill()
                stdout.finish()
                stderr.finish()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            await process.kill()
        return status, result.result(), said.result()

    async def _collect(self, stdout: OutputPipe, job: WorkerJob) -> bytes:
        if not self.lines:
            return b"".join([chunk async for chunk in stdout.read()])
        async for line in split_stream(stdout.read(), b"\n", keep_separator=self.keep_newline):
            job.send_data(line)
        return b""


async def _pass_on(stderr: OutputPipe) -> bytes:
    text = b""
    async for chunk in stderr.read():
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        text = (text + chunk)[-_MAX_ERROR_TEXT:]
    return text


def _make_environment(job: WorkerJob) -> dict[bytes, bytes]:
    # Bytes, so that every name reaches the command as it was on the wire, whatever the locale.
    facts = {"FUNCTION": job.function, "HANDLE": job.handle, "UNIQUE": job.unique, "SERVER": job.server}
    return {
        **os.environb,
        **{f"GEARMAN_{name}".encode(): fact.encode("utf-8", "surrogateescape") for name, fact in facts.items()},
    }
