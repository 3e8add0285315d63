"""``geartrain status``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from geartrain.admin import Admin, AdminGroup
from geartrain.cli.console import can_redraw, make_console
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.exit_status import SUCCESS
from geartrain.cli.fan_out import query_servers, report_errors
from geartrain.cli.function_rows import SORT_COLUMNS, RowSelection
from geartrain.cli.options import json_option, parse_name, server_option
from geartrain.cli.tables import Row, print_json_line, print_rows
from geartrain.cli.watch import REFRESH_INTERVAL
from geartrain.protocol.text_replies import FunctionStatus

__all__ = ["status"]

_COLUMNS: Final = ("server", "function", "queued", "running", "workers")
_PRIORITY_COLUMNS: Final = ("server", "function", "high", "normal", "low", "workers")


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain status",
        "geartrain status --watch -s 10.0.0.1 -s 10.0.0.2",
        "geartrain status --sort queued --filter 'image*'",
        "geartrain status --json | jq '.[] | select(.workers == 0)'",
    ],
)
@server_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Update every second, with a chart of each queue; q quits.")
@click.option("--priority", is_flag=True, help="Show the number of queued jobs per priority.")
@click.option(
    "-f",
    "--filter",
    "pattern",
    type=parse_name,
    metavar="PATTERN",
    help="Show only functions whose names match, such as 'image*'. Defaults to all.",
)
@click.option(
    "--sort",
    type=click.Choice(SORT_COLUMNS),
    help="Sort by this column, from the largest number. Defaults to the order of the servers, then of the functions.",
)
def status(
    servers: list[str], as_json: bool, watch: bool, priority: bool, pattern: str | None, sort: str | None
) -> int:
    """
    Show the number of queued jobs, running jobs and workers of each function.

    With --watch, "per s" is the change per second in the number of queued and running jobs, and functions without jobs
    and workers come last unless --sort is given.
    """
    if watch and priority:
        raise click.UsageError("--watch cannot be combined with --priority")
    if priority and sort == "running":
        raise click.UsageError("--sort running cannot be combined with --priority")
    selection = RowSelection(pattern, sort)
    if watch:
        return run_async(_watch(servers, selection, as_json=as_json))
    if priority:
        return run_async(_show_priorities(servers, selection, as_json=as_json))
    return run_async(_show(servers, selection, as_json=as_json))


async def _show(servers: Sequence[str], selection: RowSelection, *, as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.status)
    print_rows(_make_rows(answers, selection), _COLUMNS, as_json=as_json)
    return status


async def _show_priorities(servers: Sequence[str], selection: RowSelection, *, as_json: bool) -> int:
    answers, status = await query_servers(servers, Admin.priority_status)
    rows = [
        {"server": server, **row._asdict(), "queued": row.high + row.normal + row.low}
        for server, answer in answers.items()
        for row in sorted(answer)
    ]
    print_rows(selection.select(rows), _PRIORITY_COLUMNS, as_json=as_json)
    return status


def _make_rows(answers: Mapping[str, Sequence[FunctionStatus]], selection: RowSelection) -> list[Row]:
    return selection.select(
        {"server": server, **row._asdict(), "queued": row.queued}
        for server, answer in answers.items()
        for row in sorted(answer)
    )


async def _watch(servers: Sequence[str], selection: RowSelection, *, as_json: bool) -> int:
    async with AdminGroup(servers) as admins:
        if can_redraw(sys.stdout) and not as_json:
            await _show_screen(admins, selection)
            return SUCCESS
        while True:  # nothing can be redrawn, so print all lines again every second
            answers, _ = report_errors(await admins.status())
            rows = _make_rows(answers, selection)
            if as_json:
                print_json_line(rows, _COLUMNS)
            else:
                print_rows(rows, _COLUMNS, as_json=False)
            sys.stdout.flush()
            await asyncio.sleep(REFRESH_INTERVAL)


async def _show_screen(admins: AdminGroup, selection: RowSelection) -> None:
    from geartrain.cli.keyboard import has_keyboard
    from geartrain.cli.live_screen import LiveScreen
    from geartrain.cli.live_status import LiveStatus

    console = make_console()
    view = LiveStatus(admins, selection, ascii_only=console.options.ascii_only, has_keyboard=has_keyboard())
    await LiveScreen(console, view).run()
