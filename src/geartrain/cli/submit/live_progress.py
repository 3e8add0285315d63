"""Progress of ``geartrain submit`` on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geartrain.cli.messages import pluralize
from geartrain.cli.submit.progress import JobCounts, ProgressDisplay

__all__ = ["LiveProgressDisplay"]

_REFRESH: Final = 0.1  # seconds
_BAR: Final = 40  # columns


class LiveProgressDisplay(ProgressDisplay):
    """
    A progress bar or job count on standard error, cleared at the end.

    Args:
        single_job: Show the progress that the worker reports, not the number of jobs.
    """

    def __init__(self, *, single_job: bool) -> None:
        self._single_job = single_job
        self._live = Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
        self._draw: Callable[[], RenderableType] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_hidden = False

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show the progress of a single job."""
        if self._single_job:
            self._show(lambda: _draw_bar(numerator, denominator, f"{numerator:g} of {denominator:g}"))

    def show_counts(self, counts: JobCounts) -> None:
        """Show the number of jobs, with a bar as soon as their total is known."""
        if not self._single_job:
            self._show(lambda: _draw_counts(counts))

    def hide(self) -> None:
        """Clear the display, so that other output can be printed."""
        self._is_hidden = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._live.is_started:
            self._live.stop()

    def resume(self) -> None:
        """Show it again, below the output."""
        self._is_hidden = False
        if self._draw is not None:
            self._show(self._draw)

    def _show(self, draw: Callable[[], RenderableType]) -> None:
        """Draw soon, once for all updates until then."""
        self._draw = draw
        if self._timer is None and not self._is_hidden:
            self._timer = asyncio.get_running_loop().call_later(_REFRESH, self._refresh)

    def _refresh(self) -> None:
        self._timer = None
        assert self._draw is not None, "the timer is started by _show"
        if not self._live.is_started:
            self._live.start()
        self._live.update(self._draw(), refresh=True)


def _draw_counts(counts: JobCounts) -> RenderableType:
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    if counts.is_complete:
        text = f"{counts.ended:,} of {pluralize(counts.submitted, 'job')}{failed}"
        return _draw_bar(counts.ended, counts.submitted, text)
    outstanding = counts.submitted - counts.ended
    return Text(f"{pluralize(counts.ended, 'job')} ended, {outstanding:,} outstanding{failed}")


def _draw_bar(completed: float, total: float, text: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=max(total, 1e-9), completed=completed, width=_BAR), text)
    return row
