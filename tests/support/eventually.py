"""Wait for a condition, never for a number of milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], within: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true; fail if that takes longer than ``within`` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, f"not within {within} s: {condition}"
        await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true, in a test without an event loop; fail as :func:`eventually`."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        time.sleep(0.002)
