"""Environment variables for the processes that tests start."""

from __future__ import annotations

import os

__all__ = ["without_coverage"]


def without_coverage() -> dict[str, str]:
    """
    Return the environment of a process whose coverage is not measured.

    Starting coverage takes as long as starting the interpreter and importing geartrain. Programs that run nothing that
    other tests do not cover should not pay for it.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
