"""Measures the coverage of forked processes."""

from __future__ import annotations

import os
import sys

__all__ = ["save_before_forks"]


def save_before_forks() -> None:
    """
    Save what has been measured before each fork of this process; do nothing if nothing is measured.

    A forked process would otherwise save it again, which takes longer than most commands.
    """
    coverage = sys.modules.get("coverage")  # it cannot be imported if the current directory was deleted
    if coverage is not None and (measured := coverage.Coverage.current()) is not None:
        os.register_at_fork(before=measured.save)
