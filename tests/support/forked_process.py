"""Runs something in a forked process."""

from __future__ import annotations

import asyncio
import os
import traceback
import warnings
from collections.abc import Callable


def fork(work: Callable[[], str]) -> tuple[int, int]:
    """Run ``work`` in a forked process; return its number, and where its answer can be read."""
    here, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads, which pytest has
        child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException:  # noqa: BLE001  # the parent is told, and no pytest goes on here
            answer = traceback.format_exc()
        os.write(there, answer.encode())
        os._exit(0)
    os.close(there)
    return child, here


def finish(child: int, pipe: int) -> str:
    """Return the answer of a forked process when it has ended."""
    with os.fdopen(pipe) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


async def in_child(work: Callable[[], str]) -> str:
    """Return the answer of ``work`` from a forked process, without blocking the loop."""
    return await asyncio.to_thread(finish, *fork(work))
