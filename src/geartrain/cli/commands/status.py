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
from geartrain.cli.asking import ask_all, sort_answers
from geartrain.cli.console import make_console
from geartrain.cli.options import json_option, server_option
from geartrain.cli.running import run
from geartrain.cli.tables import Row, make_table, print_json_line, print_rows
from geartrain.cli.watch import INTERVAL, Curve, redraw
from geartrain.cli.words import explain_server
from geartrain.errors import GearmanError
from geartrain.protocol.text_answers import FunctionStatus

__all__ = ["status"]

_COLUMNS: Final = ("server", "function", "queued", "running", "workers")
_PRIORITY_COLUMNS: Final = ("server", "function", "high", "normal", "low", "workers")
_WATCH_COLUMNS: Final = (*_COLUMNS, "per_second", "queue")


@click.command(short_help="Show the functions, their jobs and workers.")
@server_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Show it anew each second, with a curve of each queue.")
@click.option("--priority", is_flag=True, help="Show how many jobs of each priority are queued.")
def status(servers: list[str], as_json: bool, watch: bool, priority: bool) -> int:
    """
    Show for each function how many jobs are queued and running, and how many workers offer it.

    With --watch, "per second" is by how much the number of jobs, queued and running, grew or shrank.
    """
    if watch and priority:
        raise click.UsageError("--watch does not go with --priority")
    if watch:
        return run(_watch(servers, as_json))
    return run(_show_priorities(servers, as_json) if priority else _show(servers, as_json))


async def _show(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await ask_all(servers, Admin.status)
    print_rows(_make_rows(answers), _COLUMNS, as_json=as_json)
    return status


async def _show_priorities(servers: Sequence[str], as_json: bool) -> int:
    answers, status = await ask_all(servers, Admin.priority_status)
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
            curves: defaultdict[tuple[object, object], _Curves] = defaultdict(_Curves)
            await redraw(console, lambda: _draw(admins, curves, ascii_only=console.options.ascii_only))
        while True:  # where nothing can be redrawn: the same lines again, each second
            answers, _ = sort_answers(await admins.status())
            rows = _make_rows(answers)
            if as_json:
                print_json_line(rows, _COLUMNS)
            else:
                print_rows(rows, _COLUMNS, as_json=False)
            sys.stdout.flush()
            await asyncio.sleep(INTERVAL)


class _Curves:
    """What is remembered of a function."""

    def __init__(self) -> None:
        self.queued = Curve()
        self.total = Curve(2)


async def _draw(
    admins: AdminGroup, curves: defaultdict[tuple[object, object], _Curves], *, ascii_only: bool
) -> RenderableType:
    answers = await admins.status()
    now = asyncio.get_running_loop().time()
    rows = []
    for row in _make_rows({server: rows for server, rows in answers.items() if not isinstance(rows, GearmanError)}):
        curve = curves[row["server"], row["function"]]
        curve.queued.add(now, int(str(row["queued"])))
        curve.total.add(now, int(str(row["total"])))
        drawn = curve.queued.draw(ascii_only=ascii_only)
        rows.append({**row, "per_second": f"{curve.total.rate:+,.0f}", "queue": drawn})
    errors = [
        Text(explain_server(server, answer), "red")
        for server, answer in answers.items()
        if isinstance(answer, GearmanError)
    ]
    clock = Text(time.strftime("%H:%M:%S"), "dim")
    return Group(make_table(rows, _WATCH_COLUMNS, unbroken=("queue",)), *errors, clock)
