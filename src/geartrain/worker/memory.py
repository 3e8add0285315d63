"""How much memory this process has."""

from __future__ import annotations

import os
import sys

__all__ = ["resident_memory"]

_STATM = "/proc/self/statm"


def resident_memory() -> int:
    """Return the bytes of memory that this process occupies; where the system does not tell, its peak so far."""
    try:
        with open(_STATM, "rb") as statm:
            pages = int(statm.read().split()[1])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
