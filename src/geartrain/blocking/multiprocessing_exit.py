"""The end of a process of multiprocessing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.util import Finalize

__all__ = ["call_when_child_ends"]

_PRIORITY = -1000  # after whatever else ends there, since it may still submit jobs

_pending: Finalize | None = None


def call_when_child_ends(call: Callable[[], object]) -> None:
    """
    If multiprocessing has started this process, have a function called once before it ends.

    A process that it has forked ends with ``os._exit`` and, before Python 3.13, runs no :mod:`atexit` function; since
    then it runs none that was registered before the fork. Later calls are ignored, since there is one such function.
    """
    global _pending
    process = sys.modules.get("multiprocessing.process")  # loaded in each of its processes
    if process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    # A forked process has a copy that is no longer active, because multiprocessing has cleared its list.
    if _pending is None or not _pending.still_active():
        _pending = Finalize(None, call, exitpriority=_PRIORITY)
