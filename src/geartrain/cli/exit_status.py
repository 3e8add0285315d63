"""Exit statuses of the command line."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["BROKEN_PIPE", "FAILED", "INTERRUPTED", "NO_SERVER", "SUCCESS", "USAGE_ERROR", "signal_status"]

SUCCESS: Final = 0
FAILED: Final = 1  # a job failed, or a job server rejected a request
USAGE_ERROR: Final = 2  # also used by click
NO_SERVER: Final = 3  # no job server could be reached, so nothing was sent


def signal_status(number: int) -> int:
    """Return the status that shells report for a program killed by a signal."""
    return 128 + number


INTERRUPTED: Final = signal_status(signal.SIGINT)
BROKEN_PIPE: Final = signal_status(signal.SIGPIPE)
