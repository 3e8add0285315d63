"""The view of ``geartrain status --watch`` on a terminal."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from geartrain.admin import AdminGroup
from geartrain.cli.function_rows import RowSelection
from geartrain.cli.messages import describe_server_error, pluralize
from geartrain.cli.tables import Row, format_value
from geartrain.cli.watch import Sparkline
from geartrain.errors import GearmanError
from geartrain.printable import printable
from geartrain.protocol.text_replies import FunctionStatus

__all__ = ["LiveStatus"]

_COLUMNS: Final = ("function", "queued", "running", "workers", "per_s")
_LEFT: Final = ("server", "function", "chart")  # left-aligned columns

# Widths in characters.
_GAP: Final = 2
_MAX_CHART: Final = 60  # a minute
_MIN_CHART: Final = 8
_MIN_FUNCTION: Final = 40  # what function names get before there is a chart, if they need it


class LiveStatus:
    """
    The functions of all job servers, with a chart of each queue.

    Args:
        admins: The job servers.
        selection: Which functions to show.
        ascii_only: Draw in ASCII.
        has_keyboard: Whether keys can be pressed.
    """

    def __init__(self, admins: AdminGroup, selection: RowSelection, *, ascii_only: bool, has_keyboard: bool) -> None:
        self._admins = admins
        self._selection = selection
        self._ascii_only = ascii_only
        self._has_keyboard = has_keyboard
        self._queued: defaultdict[tuple[object, object], Sparkline] = defaultdict(lambda: Sparkline(_MAX_CHART))
        self._total: defaultdict[tuple[object, object], Sparkline] = defaultdict(lambda: Sparkline(2))
        self._heading = f"querying {', '.join(admins.admins)} ..."
        self._errors: list[str] = []
        self._has_several_servers = False
        self._rows: list[Row] = []
        self._first = 0  # the number of rows above the visible ones
        self._page = 1  # the number of visible rows

    async def update(self) -> None:
        """Query the job servers."""
        answers = await self._admins.status()
        now = asyncio.get_running_loop().time()
        self._heading = f"{time.strftime('%H:%M:%S')}  {', '.join(answers)}"
        self._has_several_servers = len(answers) > 1
        self._errors = []
        rows = []
        for server, answer in answers.items():
            if isinstance(answer, GearmanError):
                self._errors.append(printable(describe_server_error(server, answer), None))
            else:
                rows += [self._make_row(server, function, now) for function in sorted(answer)]
        self._rows = self._selection.select(rows, idle_last=True)

    def press(self, key: str) -> None:
        """Scroll."""
        steps = {
            "up": -1,
            "down": 1,
            "page up": -self._page,
            "page down": self._page,
            " ": self._page,
            "home": -len(self._rows),
            "end": len(self._rows),
        }
        self._first += steps.get(key, 0)

    def draw(self, width: int, height: int) -> RenderableType:
        """Return the visible functions below a heading and the errors."""
        self._page = max(height - 3 - len(self._errors), 1)
        self._first = max(min(self._first, len(self._rows) - self._page), 0)
        return Group(
            _line(self._heading, "dim"),
            _line(self._describe_rows(), "dim"),
            *(_line(error, "red") for error in self._errors),
            self._draw_table(width),
        )

    def _draw_table(self, width: int) -> RenderableType:
        """Return a table with one line for each row, whose layout does not depend on which rows are visible."""
        widths = self._layout(width)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for column, column_width in widths.items():
            table.add_column(
                column.replace("_", " "),
                justify="left" if column in _LEFT else "right",
                width=column_width,
                no_wrap=True,
                overflow="crop" if self._ascii_only else "ellipsis",
            )
        for row in self._rows[self._first : self._first + self._page]:
            table.add_row(*(Text(self._cell(row, column, column_width)) for column, column_width in widths.items()))
        return table

    def _layout(self, width: int) -> dict[str, int]:
        """Return the width of each column. The chart gets what function names do not need, or is left out."""
        columns = ("server", *_COLUMNS) if self._has_several_servers else _COLUMNS
        widths = {
            column: max([len(column), *(len(self._cell(row, column)) for row in self._rows)]) for column in columns
        }
        longest = widths["function"]
        room = width - sum(widths.values()) - _GAP * (len(widths) - 1) + longest
        if room - _GAP - min(longest, _MIN_FUNCTION) < _MIN_CHART:
            widths["function"] = max(min(longest, room), 1)
            return widths
        widths["chart"] = max(_MIN_CHART, min(room - _GAP - longest, _MAX_CHART))
        widths["function"] = min(longest, room - _GAP - widths["chart"])
        return widths

    def _cell(self, row: Row, column: str, width: int = 0) -> str:
        if column != "chart":
            return format_value(row[column])
        return self._queued[_key(row)].draw(width, ascii_only=self._ascii_only)

    def _describe_rows(self) -> str:
        count = len(self._rows)
        functions = pluralize(count, "function")
        if count <= self._page:
            return f"{functions}; {'q' if self._has_keyboard else 'Ctrl-C'} quits"
        shown = f"{self._first + 1:,}-{self._first + self._page:,} of {functions}"
        if not self._has_keyboard:
            return f"{shown}; Ctrl-C quits"
        return f"{shown}; q quits; arrow keys, PgUp, PgDn, Home and End scroll"

    def _make_row(self, server: str, function: FunctionStatus, now: float) -> Row:
        row = {"server": server, **function._asdict(), "queued": function.queued}
        total = self._total[_key(row)]
        total.add(now, function.total)
        self._queued[_key(row)].add(now, function.queued)
        return {**row, "per_s": f"{total.rate:+,.0f}"}


def _key(row: Row) -> tuple[object, object]:
    return row["server"], row["function"]


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
