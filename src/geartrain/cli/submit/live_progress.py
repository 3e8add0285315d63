"""Progress of ``geartrain submit`` on a terminal."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geartrain.cli.submit.progress import ProgressDisplay

__all__ = ["LiveProgressDisplay"]

_REFRESH: Final = 0.1  # seconds


class LiveProgressDisplay(ProgressDisplay):
    """A progress bar or job count on standard error, cleared at the end."""

    def __init__(self, *, single_job: bool) -> None:
        self._single_job = single_job
        self._live = Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
        self._shown_at = 0.0

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show the progress of a single job."""
        if not self._single_job:
            return
        total = max(denominator, 1e-9)
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=total, completed=numerator, width=40), f"{numerator:g} of {denominator:g}")
        self._show(row)

    def show_count(self, ended: int, outstanding: int) -> None:
        """Show the number of jobs, if there are several."""
        if not self._single_job:
            self._show(Text(f"{ended:,} jobs ended, {outstanding:,} outstanding"))

    def hide(self) -> None:
        """Clear the display."""
        if self._live.is_started:
            self._live.stop()

    def _show(self, drawing: RenderableType) -> None:
        if time.monotonic() < self._shown_at + _REFRESH:
            return
        self._shown_at = time.monotonic()
        if not self._live.is_started:
            self._live.start()
        self._live.update(drawing, refresh=True)
