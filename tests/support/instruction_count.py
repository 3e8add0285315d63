"""Count the bytecode instructions that geartrain runs: a measure of cost that is the same on every machine."""

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
    How many instructions were run.

    Attributes:
        count: Instructions, of this thread and of geartrain's modules only.
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
    """Count the instructions that are run in the block; where it awaits, those of other tasks as well."""
    steps, before = Steps(), sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
