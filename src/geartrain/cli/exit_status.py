"""What the exit status of the command line says."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["BROKEN_PIPE", "DONE", "FAILED", "INTERRUPTED", "NO_SERVER", "WRONG_USE", "by_signal"]

DONE: Final = 0
FAILED: Final = 1  # a job failed, or a job server refused
WRONG_USE: Final = 2  # click's own, too
NO_SERVER: Final = 3  # no job server could be reached: nothing was sent


def by_signal(number: int) -> int:
    """Return the status that shells give to a program that a signal ended."""
    return 128 + number


INTERRUPTED: Final = by_signal(signal.SIGINT)
BROKEN_PIPE: Final = by_signal(signal.SIGPIPE)
