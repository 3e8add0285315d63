"""Does something again and again, and draws it in place: what ``--watch`` is about."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

__all__ = ["REFRESH_INTERVAL", "Sparkline", "redraw"]

REFRESH_INTERVAL: Final = 1.0  # seconds

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = "_.-=*#"


class Sparkline:
    """The last values of something that is no less than 0, and how fast it changes."""

    def __init__(self, length: int = 16) -> None:
        self._values: deque[tuple[float, int]] = deque(maxlen=length)  # time, value

    def add(self, now: float, value: int) -> None:
        """Add a value."""
        self._values.append((now, value))

    @property
    def rate(self) -> float:
        """By how much it has changed in a second, from the last value but one to the last."""
        if len(self._values) < 2:
            return 0.0
        (before, old), (now, new) = self._values[-2], self._values[-1]
        return (new - old) / max(now - before, 1e-6)

    def draw(self, *, ascii_only: bool = False) -> str:
        """Draw it, a character for each value; only 0 is at the bottom, the largest at the top."""
        levels = _ASCII_LEVELS if ascii_only else _LEVELS
        most = max((value for _, value in self._values), default=0)
        return "".join(levels[-(-value * (len(levels) - 1) // most) if most else 0] for _, value in self._values)


async def redraw(console: Console, look: Callable[[], Awaitable[RenderableType | None]]) -> None:
    """Draw on a terminal what ``look`` returns, each second, until it returns ``None``."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while (drawing := await look()) is not None:
            live.update(drawing, refresh=True)
            await asyncio.sleep(REFRESH_INTERVAL)
