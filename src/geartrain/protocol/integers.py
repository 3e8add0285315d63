"""Integers as gearmand reads them: by C's rules, since workers and clients send what they like."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["INT64_MAX", "c_integer", "c_uint32"]

INT64_MAX: Final = 2**63 - 1

# strtol(3): white space, a sign, digits; the rest is ignored. 20 digits are more than 64 bits hold, so no more of them
# are read.
_WHITE_SPACE: Final = b" \t\n\v\f\r"
_NUMBER: Final = re.compile(rb"([+-]?)0*([0-9]{1,20})")


def c_integer(text: bytes) -> int:
    """Read the decimal number that ``text`` begins with; 0 if with none. It may be greater than 64 bits hold."""
    match = _NUMBER.match(text.lstrip(_WHITE_SPACE))  # the pattern would take forty times as long to skip it
    if match is None:
        return 0
    number = int(match[2])
    return -number if match[1] == b"-" else number


def c_uint32(text: bytes) -> int:
    """Read a number as ``strtol`` does, which stops at the ends of 64 bits, and cut it to 32 bits without a sign."""
    return max(-INT64_MAX - 1, min(INT64_MAX, c_integer(text))) & 0xFFFFFFFF
