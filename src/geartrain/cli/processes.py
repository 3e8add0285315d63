"""Starts and kills processes without leaving one behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from typing import Any

__all__ = ["kill_all_of", "start_process"]


async def start_process(*command: str, **options: Any) -> Process:
    """
    Start a process in a session of its own, so that Ctrl-C does not reach it and it can be killed with all its own.

    Cancelled in the midst, asyncio would kill the process alone and wait for whoever else has its pipes; here all are
    killed, and are gone before this ends, however often it is cancelled.

    Args:
        command: The program and its arguments.
        options: Of :func:`asyncio.create_subprocess_exec`.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, start_new_session=True, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        killing = asyncio.ensure_future(_kill_when_started(starting))
        while not killing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([killing])
        raise


async def kill_all_of(process: Process) -> None:
    """Kill a process of :func:`start_process`, and what it has started, unless it has ended; see that it is gone."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _kill_when_started(starting: asyncio.Future[Process]) -> None:
    await asyncio.wait([starting])
    if not starting.cancelled() and starting.exception() is None:
        await kill_all_of(starting.result())
