"""Shows the progress of the demo: live bars on a terminal, plain lines elsewhere."""

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
    Prints plain lines: events, and the progress after each tenth of the files.

    Args:
        console: Where to print.
        total: The number of files.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.finished_files: int = 0

    def show_message(self, message: str, style: str = "") -> None:
        """Print a message about an event."""
        self.console.print(Text(f"  {printable(message, None)}", style), soft_wrap=True)

    def show_progress(self, worker: str, name: str, fraction: float) -> None:
        """Show a worker's progress with a file."""

    def finish_file(self, worker: str) -> None:
        """Show that a file is finished, successfully or not; ``worker`` was the last one to work on it."""
        self._count_file()
        if (self.finished_files - 1) * 10 // self.total < self.finished_files * 10 // self.total:
            self.show_message(f"{self.finished_files} of {self.total} files")

    def remove_worker(self, worker: str) -> None:
        """Stop showing a worker."""

    def _count_file(self) -> None:
        self.finished_files += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class LiveScreen(Screen):
    """Shows a bar for all files and one per worker for its current file; messages scroll above them."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self._current: dict[str, tuple[str, float]] = {}  # worker -> file, fraction
        # No refresh thread: everything runs in the event loop.
        self._live = Live(self._draw(), console=console, auto_refresh=False)
        self._refreshing: asyncio.Task[None] | None = None

    def show_message(self, message: str, style: str = "") -> None:  # noqa: D102
        # Options of print, such as soft_wrap, would also affect the bars below.
        self.console.print(Text(f"  {printable(message, None)}", style))

    def show_progress(self, worker: str, name: str, fraction: float) -> None:  # noqa: D102
        self._current[worker] = (name, fraction)

    def finish_file(self, worker: str) -> None:  # noqa: D102
        self._count_file()
        if worker in self._current:
            self._current[worker] = (self._current[worker][0], 1.0)

    def remove_worker(self, worker: str) -> None:  # noqa: D102
        self._current.pop(worker, None)

    async def __aenter__(self) -> Self:
        self._live.start()
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._refreshing is not None, "only called after __aenter__"
        self._refreshing.cancel()
        await asyncio.wait([self._refreshing])
        self._current.clear()
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
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # the other columns keep their width
        fraction_done = self.finished_files / self.total
        rows.add_row(
            Text("all files", "bold"),
            ProgressBar(total=1.0, completed=fraction_done, width=_BAR, complete_style="green", finished_style="green"),
            f"{fraction_done:.0%}",
            f"{self.finished_files} of {self.total}",
        )
        for worker, (name, fraction) in sorted(self._current.items()):
            bar = ProgressBar(total=1.0, completed=fraction, width=_BAR, complete_style="cyan", finished_style="cyan")
            rows.add_row(worker, bar, f"{fraction:.0%}", Text(printable(name, None), "dim"))
        return Group(Text(), rows)


def make_screen(console: Console, total: int) -> Screen:
    """Return a screen that suits the console."""
    # With FORCE_COLOR, rich treats any file as a terminal, so check the file itself.
    live = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return (LiveScreen if live else Screen)(console, total)
