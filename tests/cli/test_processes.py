"""Processes of the command line that are no longer wanted while they are being started."""

from __future__ import annotations

import asyncio
import gc
from asyncio.subprocess import PIPE
from pathlib import Path
from threading import get_native_id

import pytest

from geartrain.cli.processes import start_process


@pytest.mark.parametrize("turns_between", range(4))
@pytest.mark.parametrize("turns_before", range(1, 8))
async def test_a_start_that_is_cancelled_twice_leaves_no_process_behind(turns_before: int, turns_between: int) -> None:
    before = find_children()
    starting = asyncio.create_task(start_process("sleep", "60", stdin=PIPE))
    for turns in (turns_before, turns_between):
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert find_children() == before


@pytest.mark.parametrize("command", ["/nowhere/to/be/found", "with a \0"])
async def test_a_start_that_fails_after_it_was_cancelled_is_only_cancelled(command: str) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    starting = asyncio.create_task(start_process(command))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.sleep(0)
    gc.collect()
    assert not reported


def find_children() -> set[str]:
    """Return the processes that this thread has started, also those that have ended and nobody has waited for."""
    # Not those of all threads: asyncio has one for each process, and it may end while it is looked at.
    return set(Path(f"/proc/self/task/{get_native_id()}/children").read_text().split())
