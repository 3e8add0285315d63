"""Runs a function in a forked child process."""

from __future__ import annotations

import asyncio
import os
import traceback
import warnings
from collections.abc import Callable


def fork(work: Callable[[], str]) -> tuple[int, int]:
    """Run ``work`` in a forked child; return its process ID, and a file descriptor for its result."""
    here, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads, which pytest has
        child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException:  # noqa: BLE001  # reported to the parent; the child must not go on running pytest
            answer = traceback.format_exc()
        os.write(there, answer.encode())
        os._exit(0)
    os.close(there)
    return child, here


def finish(child: int, pipe: int) -> str:
    """Wait for a forked child, and return its result."""
    with os.fdopen(pipe) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


async def in_child(work: Callable[[], str]) -> str:
    """Run ``work`` in a forked child, and return its result without blocking the loop."""
    return await asyncio.to_thread(finish, *fork(work))
