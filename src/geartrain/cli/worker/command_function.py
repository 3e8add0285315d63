"""A worker function that runs a command for each job."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.messages import describe_exit, first_error
from geartrain.cli.pipes import InputPipe, OutputPipe
from geartrain.cli.workload_source import split_stream
from geartrain.errors import JobFailedError, JobTooLargeError
from geartrain.worker import WorkerJob

__all__ = ["CommandError", "CommandFunction"]

_FAIL: Final = 1  # exit status that sends WORK_FAIL, as in `gearman -w`
_MAX_ERROR_TEXT: Final = 64 * 1024  # only the last bytes of standard error go into a WORK_EXCEPTION
_MAX_OUTPUT: Final = 64 * 1024 * 1024  # bytes; the default max_packet_size of Worker
_LINGER: Final = 0.5  # seconds for processes that the command has started, such as a pipeline, to end after it


class CommandError(Exception):
    """A command failed. The message is its standard error output, or else describes how it ended."""


@dataclass(frozen=True)
class CommandFunction:
    """
    A worker function that runs a command for each job.

    The command reads the workload from standard input and writes the result to standard output. Exit status 0 completes
    the job and 1 fails it; any other status, or a signal, raises an exception. Standard error is also copied to that of
    this process. The job's attributes are in the environment variables GEARMAN_FUNCTION, GEARMAN_HANDLE, GEARMAN_UNIQUE
    and GEARMAN_SERVER.

    Processes that the command has started are killed if they are still running shortly after it has ended, unless they
    have created their own session.

    A command whose result, or a line of it, becomes too large for a packet is killed immediately, and its job raises an
    exception.

    Attributes:
        command: The program and its arguments.
        lines: Send each line of output as WORK_DATA as soon as it is complete.
        keep_newline: With ``lines``: keep the newline.
    """

    command: Sequence[str]
    lines: bool = False
    keep_newline: bool = False

    async def __call__(self, job: WorkerJob) -> bytes:
        """Run the command for a job and return its result, or raise the error that ends the job."""
        with ExitStack() as stack:
            stdin = stack.enter_context(InputPipe())
            stdout = stack.enter_context(OutputPipe())
            stderr = stack.enter_context(OutputPipe())
            status, result, error_text = await self._run(job, stdin, stdout, stderr)
        message = error_text.decode("utf-8", "replace").strip()
        if status == _FAIL:
            raise JobFailedError(message)
        if status != 0:
            raise CommandError(message or f"{self.command[0]} ended with {describe_exit(status)}")
        return result

    async def _run(
        self, job: WorkerJob, stdin: InputPipe, stdout: OutputPipe, stderr: OutputPipe
    ) -> tuple[int, bytes, bytes]:
        """Run the command; return its exit status, its result and the end of its standard error output."""
        try:
            process = ChildProcess(
                self.command,
                stdin=stdin.child_end,
                stdout=stdout.child_end,
                stderr=stderr.child_end,
                env=_make_environment(job),
            )
        except OSError as error:
            raise CommandError(f"cannot start {self.command[0]}: {error.strerror}") from error
        for pipe in (stdin, stdout, stderr):
            pipe.close_child_end()
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(stdin.write(job.workload))
                error_text = group.create_task(_forward_errors(stderr))
                result = group.create_task(self._collect(stdout, job))
                await process.wait_for_exit()
                writing.cancel()
                await asyncio.wait([error_text, result], timeout=_LINGER)
                status = await process.kill()
                stdout.finish()
                stderr.finish()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            await process.kill()
        return status, result.result(), error_text.result()

    async def _collect(self, stdout: OutputPipe, job: WorkerJob) -> bytes:
        output = _limit_output(stdout.read(), by_line=self.lines)
        if not self.lines:
            return b"".join([chunk async for chunk in output])
        async for line in split_stream(output, b"\n", keep_separator=self.keep_newline):
            job.send_data(line)
            await job.drain()
        return b""


async def _limit_output(chunks: AsyncIterator[bytes], *, by_line: bool) -> AsyncIterator[bytes]:
    """Yield the chunks; raise JobTooLargeError once the output, or a line of it, is too long: it may be endless."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if by_line and (newline := chunk.rfind(b"\n")) >= 0:
            size = len(chunk) - newline - 1
        if size > _MAX_OUTPUT:
            what = "a line of the output" if by_line else "the output"
            raise JobTooLargeError(f"{what} exceeds {_MAX_OUTPUT} bytes", size=size, limit=_MAX_OUTPUT)
        yield chunk


async def _forward_errors(stderr: OutputPipe) -> bytes:
    text = b""
    async for chunk in stderr.read():
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        text = (text + chunk)[-_MAX_ERROR_TEXT:]
    return text


def _make_environment(job: WorkerJob) -> dict[bytes, bytes]:
    # Bytes, so that names reach the command as they were on the wire, whatever the locale.
    attributes = {"FUNCTION": job.function, "HANDLE": job.handle, "UNIQUE": job.unique, "SERVER": job.server}
    return {
        **os.environb,
        **{f"GEARMAN_{name}".encode(): value.encode("utf-8", "surrogateescape") for name, value in attributes.items()},
    }
