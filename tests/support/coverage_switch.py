"""Measures coverage only where that is worth its time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coverage.config import CoverageConfig

import geartrain

__all__ = ["CoverageSwitch"]

_PROCESSES = "COVERAGE_PROCESS_CONFIG"  # the environment variable that starts coverage in a new process
_SOURCE = str(Path(geartrain.__file__).parent / "*")


class CoverageSwitch:
    """
    Suspends the measurement of coverage in this process, and in those that it starts, except in :meth:`measuring`.

    Does nothing if coverage is not measured, and does not disturb a debugger.
    """

    def __init__(self) -> None:
        trace = sys.gettrace()
        is_coverage = type(trace).__module__ == "coverage"
        self._trace = trace if is_coverage else None
        self._thread_trace = threading.gettrace() if is_coverage else None
        processes = os.environ.get(_PROCESSES)
        self._processes = processes if processes is None else _without_unexecuted_files(processes)
        self._suspend()

    @contextmanager
    def measuring(self, *, processes: bool) -> Iterator[None]:
        """
        Measure coverage until the end of the block.

        Args:
            processes: Also that of processes that are started in the block.
        """
        if processes and self._processes is not None:
            os.environ[_PROCESSES] = self._processes
        if self._trace is not None:
            threading.settrace(self._thread_trace)
            sys.settrace(self._trace)
        try:
            yield
        finally:
            self._suspend()

    def _suspend(self) -> None:
        if self._trace is not None:
            sys.settrace(None)
            threading.settrace(None)
        os.environ.pop(_PROCESSES, None)


def _without_unexecuted_files(serialized: str) -> str:
    """Change a configuration so that a process does not look for files that it has not run: pytest does."""
    config = CoverageConfig.deserialize(serialized)
    config.set_option("run:source", None)
    config.set_option("run:include", [_SOURCE])
    return config.serialize()
