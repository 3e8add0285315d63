"""Send signals to processes that may have exited, so that cleaning up does not hide why a test failed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

__all__ = ["end_process", "send_signal"]


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process, if it exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def end_process(process: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to a subprocess, unless it has exited, and wait until it has."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    await process.communicate()  # unlike wait(), it does not hang if a pipe is full
