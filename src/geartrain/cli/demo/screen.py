"""What the demo shows while it works: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from geartrain.printable import printable

__all__ = ["LiveScreen", "Screen", "make_screen"]

_REFRESH: Final = 0.1  # seconds
_BAR: Final = 32  # columns


class Screen:
    """
    Plain lines: what happens, and a word at each tenth of the way.

    Args:
        console: Where to.
        total: How many files there are.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.ended: int = 0

    def show_message(self, words: str, style: str = "") -> None:
        """Say what happened."""
        self.console.print(Text(f"  {printable(words, None)}", style), soft_wrap=True)

    def show_progress(self, worker: str, name: str, fraction: float) -> None:
        """Show how far a worker has come with a file."""

    def finish_file(self, worker: str) -> None:
        """Show that a file has been dealt with, by this worker if by any."""
        self._count()
        if (self.ended - 1) * 10 // self.total < self.ended * 10 // self.total:
            self.show_message(f"{self.ended} of {self.total} files")

    def remove_worker(self, worker: str) -> None:
        """Show a worker no more."""

    def _count(self) -> None:
        self.ended += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class LiveScreen(Screen):
    """A bar for the whole and one for the file that each worker is at; what happens scrolls by above."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self._work: dict[str, tuple[str, float]] = {}  # worker -> file, fraction
        # No thread of rich's: everything happens in the event loop.
        self._live = Live(self._draw(), console=console, auto_refresh=False)
        self._refreshing: asyncio.Task[None] | None = None

    def show_message(self, words: str, style: str = "") -> None:  # noqa: D102
        # Options of print, such as soft_wrap, would be taken for the bars below as well.
        self.console.print(Text(f"  {printable(words, None)}", style))

    def show_progress(self, worker: str, name: str, fraction: float) -> None:  # noqa: D102
        self._work[worker] = (name, fraction)

    def finish_file(self, worker: str) -> None:  # noqa: D102
        self._count()
        if worker in self._work:
            self._work[worker] = (self._work[worker][0], 1.0)

    def remove_worker(self, worker: str) -> None:  # noqa: D102
        self._work.pop(worker, None)

    async def __aenter__(self) -> Self:
        self._live.start()
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._refreshing is not None, "it was entered"
        self._refreshing.cancel()
        await asyncio.wait([self._refreshing])
        self._work.clear()
        self._live.update(self._draw())
        self._live.stop()

    async def _refresh(self) -> None:
        while True:
            self._live.update(self._draw(), refresh=True)
            await asyncio.sleep(_REFRESH)

    def _draw(self) -> Group:
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(width=9, no_wrap=True)
        rows.add_column(width=_BAR)
        rows.add_column(justify="right", width=4)
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # the others keep their width
        share = self.ended / self.total
        rows.add_row(
            Text("all files", "bold"),
            ProgressBar(total=1.0, completed=share, width=_BAR, complete_style="green", finished_style="green"),
            f"{share:.0%}",
            f"{self.ended} of {self.total}",
        )
        for worker, (name, fraction) in sorted(self._work.items()):
            bar = ProgressBar(total=1.0, completed=fraction, width=_BAR, complete_style="cyan", finished_style="cyan")
            rows.add_row(worker, bar, f"{fraction:.0%}", Text(printable(name, None), "dim"))
        return Group(Text(), rows)


def make_screen(console: Console, total: int) -> Screen:
    """Return what fits the console. FORCE_COLOR makes rich take a file for a terminal; we ask the file itself."""
    live = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return (LiveScreen if live else Screen)(console, total)
