"""Shows the progress of ``geartrain submit`` on a terminal."""

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
    """Shows nothing; used if standard error is not a suitable terminal."""

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show the progress of a single job."""

    def show_count(self, ended: int, outstanding: int) -> None:
        """Show the number of jobs, if there are several."""

    def hide(self) -> None:
        """Clear the display before output is printed; later updates appear below the output."""


class _LiveProgressDisplay(ProgressDisplay):
    """A progress bar or job count on standard error, cleared at the end."""

    def __init__(self, console: Console, *, single_job: bool) -> None:
        self._single_job = single_job
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown_at = 0.0

    def show_status(self, numerator: float, denominator: float) -> None:
        if not self._single_job:
            return
        total = max(denominator, 1e-9)
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=total, completed=numerator, width=40), f"{numerator:g} of {denominator:g}")
        self._show(row)

    def show_count(self, ended: int, outstanding: int) -> None:
        if not self._single_job:
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


def make_progress_display(*, single_job: bool) -> ProgressDisplay:
    """Return a suitable display. If standard output is a terminal as well, progress is shown only for a single job."""
    console = Console(stderr=True, highlight=False)
    is_visible = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
    return (
        _LiveProgressDisplay(console, single_job=single_job)
        if is_visible and (single_job or not sys.stdout.isatty())
        else ProgressDisplay()
    )
