"""Ends processes, which may have exited, so that cleaning up neither hides why a test failed nor leaves any behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

__all__ = ["end_process", "run_program", "send_signal"]


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process, if it exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def end_process(process: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to a subprocess, unless it has exited, and wait until it has."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    await process.communicate()  # unlike wait(), it does not hang if a pipe is full


def run_program(
    command: Sequence[str], *, timeout: float = 40.0, pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """
    Run a program that may start others.

    Raises:
        TimeoutExpired: If that takes longer than ``timeout`` seconds. All the processes were killed.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
