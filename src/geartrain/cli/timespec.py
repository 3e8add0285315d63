"""Parses points in time given on the command line."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Final

__all__ = ["parse_time"]

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(text: str, now: float | None = None) -> float:
    """
    Return a point in time as seconds since the epoch.

    Args:
        text: Seconds since the epoch; an offset from now such as ``+90``, ``+15m``, ``+2h`` or ``+1d``; or an ISO 8601
            date and time, in local time unless it includes a UTC offset.
        now: The current time. Defaults to :func:`time.time`.

    Raises:
        ValueError: If the text is none of these.
    """
    if match := re.fullmatch(r"\+(\d{1,12})([smhd]?)", text):
        return (time.time() if now is None else now) + int(match[1]) * _UNITS[match[2]]
    if re.fullmatch(r"\d{9,18}", text):
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"invalid time {text!r}: expected 2027-01-31T12:00, seconds since 1970, or +90, +15m, +2h, +1d"
        ) from error
