"""``geartrain status``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.text import Text

from geartrain.admin import Admin, AdminGroup
from geartrain.cli.console import make_console
from geartrain.cli.event_loop import run_async
from geartrain.cli.fan_out import query_servers, report_errors
from geartrain.cli.messages import describe_server_error
from geartrain.cli.options import json_option, server_option
from geartrain.cli.tables import Row, make_table, print_json_line, print_rows
from geartrain.cli.watch import REFRESH_INTERVAL, Sparkline, redraw
from geartrain.errors import GearmanError
from geartrain.printable import printable
from geartrain.protocol.text_replies import FunctionStatus

__all__ = ["status"]

_COLUMNS: Final = ("server", "function", "queued", "running", "workers")
_PRIORITY_COLUMNS: Final = ("server", "function", "high", "normal", "low", "workers")
_WATCH_COLUMNS: Final = (*_COLUMNS, "per_s", "queue")


@click.command(short_help="Show functions with their jobs and workers.")
@server_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Update every second, with a chart of each queue.")
@click.option("--priority", is_flag=True, help="Show the number of queued jobs per priority.")
def status(servers: list[str], as_json: bool, watch: bool, priority: bool) -> int:
    """
    Show the number of queued jobs, running jobs and workers of each function.

    With --watch, "per s" is the change per second in the number of queued and running jobs, and functions without jobs
    and workers come last.
    """
    if watch and priority:
        raise click.UsageError("--watch cannot be combined with --priority")
    if watch:
        return run_async(_watch(servers, as_json))
    return run_async(_show_priorities(servers, as_json) if priority else _show(servers, as_json))


async def _show(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.status)
    print_rows(_make_rows(answers), _COLUMNS, as_json=as_json)
    return status


async def _show_priorities(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.priority_status)
    rows = [{"server": server, **row._asdict()} for server, answer in answers.items() for row in sorted(answer)]
    print_rows(rows, _PRIORITY_COLUMNS, as_json=as_json)
    return status


def _make_rows(answers: Mapping[str, Sequence[FunctionStatus]]) -> list[Row]:
    return [
        {"server": server, **row._asdict(), "queued": row.queued}
        for server, answer in answers.items()
        for row in sorted(answer)
    ]


async def _watch(servers: Sequence[str], as_json: bool) -> int:
    console = make_console()
    async with AdminGroup(servers) as admins:
        if console.is_terminal and not as_json:
            await redraw(console, _LiveStatus(admins, ascii_only=console.options.ascii_only).draw)
        while True:  # nothing can be redrawn, so print all lines again every second
            answers, _ = report_errors(await admins.status())
            rows = _make_rows(answers)
            if as_json:
                print_json_line(rows, _COLUMNS)
            else:
                print_rows(rows, _COLUMNS, as_json=False)
            sys.stdout.flush()
            await asyncio.sleep(REFRESH_INTERVAL)


class _LiveStatus:
    """The view drawn by ``--watch``: the functions of all job servers, with a chart of each queue."""

    def __init__(self, admins: AdminGroup, *, ascii_only: bool) -> None:
        self._admins = admins
        self._ascii_only = ascii_only
        self._queued: defaultdict[tuple[str, str], Sparkline] = defaultdict(Sparkline)
        self._total: defaultdict[tuple[str, str], Sparkline] = defaultdict(Sparkline)

    async def draw(self) -> RenderableType:
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
        columns = _WATCH_COLUMNS if len(answers) > 1 else _WATCH_COLUMNS[1:]
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
