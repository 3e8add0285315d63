"""Counts the bytecode instructions that geartrain executes: a cost that is the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import geartrain

_SOURCE = str(Path(geartrain.__file__).parent)


class Steps:
    """
    Counts executed instructions.

    Attributes:
        count: Instructions in geartrain's modules, in this thread only.
    """

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_SOURCE):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        self.count += event == "opcode"
        return self.trace


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count the instructions executed in the block, including those of other tasks while it awaits."""
    steps, before = Steps(), sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
