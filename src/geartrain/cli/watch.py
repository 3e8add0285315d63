"""How often ``--watch`` updates, and charts of what it shows."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["REFRESH_INTERVAL", "Sparkline"]

REFRESH_INTERVAL: Final = 1.0  # seconds

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = "_.-=*#"


class Sparkline:
    """A chart of the most recent values of a non-negative number, and its rate of change."""

    def __init__(self, length: int = 16) -> None:
        self._values: deque[tuple[float, int]] = deque(maxlen=length)  # time, value

    def add(self, now: float, value: int) -> None:
        """Add a value."""
        self._values.append((now, value))

    @property
    def rate(self) -> float:
        """The change per second between the last two values."""
        if len(self._values) < 2:
            return 0.0
        (earlier, old), (later, new) = self._values[-2], self._values[-1]
        return (new - old) / max(later - earlier, 1e-6)

    def draw(self, length: int | None = None, *, ascii_only: bool = False) -> str:
        """
        Return one character for each of the last ``length`` values.

        Only 0 is at the lowest level, and the largest value is at the highest.
        """
        levels = _ASCII_LEVELS if ascii_only else _LEVELS
        values = [value for _, value in self._values][-length if length else 0 :]
        largest = max(values, default=0)
        return "".join(levels[-(-value * (len(levels) - 1) // largest) if largest else 0] for value in values)
