"""Numbers as workers in the field write them into WORK_STATUS."""

from __future__ import annotations

import math
import re

__all__ = ["fraction", "parse_number"]


def parse_number(text: bytes) -> int | float | None:
    """Read a number: ``7``, ``-1``, ``50.5``; ``None`` if it is none, or longer than any that makes sense."""
    if re.fullmatch(rb"[+-]?[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(rb"[+-]?([0-9]{1,300}\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", text):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


def fraction(numerator: float, denominator: float) -> float | None:
    """Divide, where that gives a number from 0.0 to 1.0."""
    if denominator == 0 or not 0 <= numerator / denominator <= 1:
        return None
    return numerator / denominator
