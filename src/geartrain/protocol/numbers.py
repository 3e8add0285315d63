"""Numbers as workers in the field write them into WORK_STATUS."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["MAX_NUMBER", "fraction", "parse_number"]

MAX_NUMBER: Final = 320  # characters; no float, written out without an exponent, has more digits before its point

_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,18}")
# Each character can be matched in one way only, so this takes linear time where it does not match, too.
_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")


def parse_number(text: bytes) -> int | float | None:
    """Read a number: ``7``, ``-1``, ``50.5``; ``None`` if it is no finite number or longer than :data:`MAX_NUMBER`."""
    if len(text) > MAX_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


def fraction(numerator: float, denominator: float) -> float | None:
    """Divide, where that gives a number from 0.0 to 1.0."""
    if denominator == 0 or not 0 <= numerator / denominator <= 1:
        return None
    return numerator / denominator
