"""How far ``geartrain submit`` is, on a terminal beside its output."""

from __future__ import annotations

import sys
import time
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["ProgressDisplay", "make_progress_display"]

_REFRESH: Final = 0.1  # seconds


class ProgressDisplay:
    """Shows nothing; what is used where nobody would see it."""

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show how far a job is, where there is but one."""

    def show_count(self, ended: int, outstanding: int) -> None:
        """Show how many jobs there are, where there are many."""

    def hide(self) -> None:
        """Make room for output; what is shown next is shown below it."""


class _LiveProgressDisplay(ProgressDisplay):
    """A bar on standard error, wiped away at the end."""

    def __init__(self, console: Console, *, lone: bool) -> None:
        self._lone = lone
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown_at = 0.0

    def show_status(self, numerator: float, denominator: float) -> None:
        if not self._lone:
            return
        total = max(denominator, 1e-9)
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=total, completed=numerator, width=40), f"{numerator:g} of {denominator:g}")
        self._show(row)

    def show_count(self, ended: int, outstanding: int) -> None:
        if not self._lone:
            self._show(Text(f"{ended:,} jobs ended, {outstanding:,} outstanding"))

    def hide(self) -> None:
        if self._live.is_started:
            self._live.stop()

    def _show(self, drawing: RenderableType) -> None:
        if time.monotonic() < self._shown_at + _REFRESH:
            return
        self._shown_at = time.monotonic()
        if not self._live.is_started:
            self._live.start()
        self._live.update(drawing, refresh=True)


def make_progress_display(*, lone: bool) -> ProgressDisplay:
    """Return what fits: with standard output on the same terminal, only a lone job that has not said anything yet."""
    console = Console(stderr=True, highlight=False)
    seen = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
    return _LiveProgressDisplay(console, lone=lone) if seen and (lone or not sys.stdout.isatty()) else ProgressDisplay()
