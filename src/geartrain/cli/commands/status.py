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
from geartrain.cli.fan_out import query_servers, report_errors
from geartrain.cli.options import json_option, server_option
from geartrain.cli.tables import Row, print_json_line, print_rows
from geartrain.cli.watch import REFRESH_INTERVAL
from geartrain.protocol.text_replies import FunctionStatus

__all__ = ["status"]

_COLUMNS: Final = ("server", "function", "queued", "running", "workers")
_PRIORITY_COLUMNS: Final = ("server", "function", "high", "normal", "low", "workers")


@click.command()
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
    async with AdminGroup(servers) as admins:
        if can_redraw(sys.stdout) and not as_json:
            from geartrain.cli.live_status import LiveStatus
            from geartrain.cli.live_view import redraw

            console = make_console()
            await redraw(console, LiveStatus(admins, ascii_only=console.options.ascii_only).draw)
        while True:  # nothing can be redrawn, so print all lines again every second
            answers, _ = report_errors(await admins.status())
            rows = _make_rows(answers)
            if as_json:
                print_json_line(rows, _COLUMNS)
            else:
                print_rows(rows, _COLUMNS, as_json=False)
            sys.stdout.flush()
            await asyncio.sleep(REFRESH_INTERVAL)
