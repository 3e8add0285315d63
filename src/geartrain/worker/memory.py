"""Measures the memory that this process uses."""

from __future__ import annotations

import os
import sys

__all__ = ["resident_memory"]

_STATM = "/proc/self/statm"


def resident_memory() -> int:
    """Return how many bytes of memory this process uses, or its peak so far on systems without ``/proc``."""
    try:
        with open(_STATM, "rb") as statm:
            pages = int(statm.read().split()[1])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
