"""The view of ``geartrain status --watch`` on a terminal."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from geartrain.admin import AdminGroup
from geartrain.cli.messages import describe_server_error
from geartrain.cli.tables import Row, make_table
from geartrain.cli.watch import Sparkline
from geartrain.errors import GearmanError
from geartrain.printable import printable
from geartrain.protocol.text_replies import FunctionStatus

__all__ = ["LiveStatus"]

_COLUMNS: Final = ("server", "function", "queued", "running", "workers", "per_s", "queue")


class LiveStatus:
    """
    The functions of all job servers, with a chart of each queue.

    Args:
        admins: The job servers.
        ascii_only: Draw the charts in ASCII.
    """

    def __init__(self, admins: AdminGroup, *, ascii_only: bool) -> None:
        self._admins = admins
        self._ascii_only = ascii_only
        self._queued: defaultdict[tuple[str, str], Sparkline] = defaultdict(Sparkline)
        self._total: defaultdict[tuple[str, str], Sparkline] = defaultdict(Sparkline)

    async def draw(self) -> RenderableType:
        """Query the job servers and return the view."""
        answers = await self._admins.status()
        now = asyncio.get_running_loop().time()
        rows: list[Row] = []
        lines = [Text(f"{time.strftime('%H:%M:%S')}  {', '.join(answers)}", "dim")]
        for server, answer in answers.items():
            if isinstance(answer, GearmanError):
                lines.append(Text(printable(describe_server_error(server, answer), None), "red"))
            else:
                rows += [self._make_row(server, function, now) for function in answer]
        # Sort by server and function; those without jobs and workers come last.
        rows.sort(key=lambda row: (not (row["total"] or row["workers"]), row["server"], row["function"]))
        columns = _COLUMNS if len(answers) > 1 else _COLUMNS[1:]
        return Group(make_table(rows, columns, folded="function"), *lines)

    def _make_row(self, server: str, function: FunctionStatus, now: float) -> Row:
        queued, total = self._queued[server, function.function], self._total[server, function.function]
        queued.add(now, function.queued)
        total.add(now, function.total)
        return {
            "server": server,
            **function._asdict(),
            "queued": function.queued,
            "per_s": f"{total.rate:+,.0f}",
            "queue": queued.draw(ascii_only=self._ascii_only),
        }
