"""Parses numbers that workers write into WORK_STATUS, and numbers as gearmand reads them."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["INT64_MAX", "MAX_NUMBER", "c_integer", "c_uint32", "fraction", "parse_number"]

MAX_NUMBER: Final = 320  # characters; no float written without an exponent has more digits before its point
INT64_MAX: Final = 2**63 - 1

_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,18}")
# Each character can be matched in one way only, so a mismatch is found in linear time, too.
_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")

# strtol(3): white space, a sign, digits; it ignores the rest. 20 digits exceed 64 bits, so the others need not be read.
_WHITE_SPACE: Final = b" \t\n\v\f\r"
_C_INTEGER: Final = re.compile(rb"([+-]?)0*([0-9]{1,20})")


def parse_number(text: bytes) -> int | float | None:
    """
    Parse a number such as ``7``, ``-1`` or ``50.5``.

    Returns ``None`` if the text is not a finite number or is longer than :data:`MAX_NUMBER`.
    """
    if len(text) > MAX_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


def fraction(numerator: float, denominator: float) -> float | None:
    """Return the quotient if it is between 0.0 and 1.0, else ``None``."""
    if denominator == 0 or not 0 <= numerator / denominator <= 1:
        return None
    return numerator / denominator


def c_integer(text: bytes) -> int:
    """Parse the decimal number that ``text`` starts with, or return 0. The result may exceed 64 bits."""
    match = _C_INTEGER.match(text.lstrip(_WHITE_SPACE))  # the pattern would skip white space forty times as slowly
    if match is None:
        return 0
    number = int(match[2])
    return -number if match[1] == b"-" else number


def c_uint32(text: bytes) -> int:
    """Parse a number as ``strtol`` does, which clamps it to 64 bits, and truncate it to 32 unsigned bits."""
    return max(-INT64_MAX - 1, min(INT64_MAX, c_integer(text))) & 0xFFFFFFFF
