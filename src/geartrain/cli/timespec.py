"""Points in time, as users write them."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Final

__all__ = ["parse_time"]

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(text: str, now: float | None = None) -> float:
    """
    Return seconds since the epoch.

    Args:
        text: Such seconds; ``+90``, ``+15m``, ``+2h``, ``+1d`` from now; or a date and time as ISO 8601 has it, local
            time if it names no zone.
        now: The present time.

    Raises:
        ValueError: If it is none of these.
    """
    if match := re.fullmatch(r"\+(\d{1,12})([smhd]?)", text):
        return (time.time() if now is None else now) + int(match[1]) * _UNITS[match[2]]
    if re.fullmatch(r"\d{9,18}", text):
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"a time is like 2027-01-31T12:00, seconds since 1970, or +90, +15m, +2h, +1d, got {text!r}"
        ) from error
