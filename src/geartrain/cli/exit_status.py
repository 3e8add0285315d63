"""What the exit status of the command line says."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["BROKEN_PIPE", "FAILED", "INTERRUPTED", "NO_SERVER", "SUCCESS", "USAGE_ERROR", "signal_status"]

SUCCESS: Final = 0
FAILED: Final = 1  # a job failed, or a job server refused
USAGE_ERROR: Final = 2  # click's own, too
NO_SERVER: Final = 3  # no job server could be reached: nothing was sent


def signal_status(number: int) -> int:
    """Return the status that shells give to a program that a signal ended."""
    return 128 + number


INTERRUPTED: Final = signal_status(signal.SIGINT)
BROKEN_PIPE: Final = signal_status(signal.SIGPIPE)
