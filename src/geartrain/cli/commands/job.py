"""``geartrain job``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

import click
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from geartrain.cli.console import make_console
from geartrain.cli.event_loop import run_async
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.handles import parse_handle
from geartrain.cli.messages import pluralize
from geartrain.cli.options import json_option, name, server_option
from geartrain.cli.watch import REFRESH_INTERVAL, redraw
from geartrain.client import Client
from geartrain.handle import JobHandle, JobStatus

__all__ = ["job"]

_BAR: Final = 40  # columns
_ENDED: Final = "not known: it has ended, or there never was such a job"


@click.command(short_help="Show how far a job is.")
@click.argument("handle", type=name)
@server_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Show it anew each second, until the job has ended.")
@click.option("-u", "--unique", is_flag=True, help="HANDLE is a unique; ask the job server that it belongs to.")
def job(handle: str, servers: list[str], as_json: bool, watch: bool, unique: bool) -> int:
    """
    Show what its job server says of a job, foreground or background.

    HANDLE is what `geartrain submit --background` printed, or what `JobHandle.token()` returned; without a job server
    in front, -s names the job server. A job server forgets a job as soon as it ends: the exit status is then 1, or 0 if
    --watch has seen the job before.
    """
    asked: JobHandle | str = handle if unique else parse_handle(handle, servers)
    try:
        return run_async(_show(servers, asked, watch=watch, as_json=as_json))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def _show(servers: list[str], asked: JobHandle | str, *, watch: bool, as_json: bool) -> int:
    console = make_console()
    known = False
    async with Client(servers) as client:

        async def look() -> JobStatus:
            nonlocal known
            question = client.get_status(asked) if isinstance(asked, JobHandle) else client.get_status_unique(asked)
            status = await question
            known = known or status.known
            return status

        async def draw() -> RenderableType | None:
            status = await look()
            return _draw(status) if status.known else None

        if watch and console.is_terminal and not as_json:
            await redraw(console, draw)
            click.echo("it has ended" if known else _ENDED)
        else:
            await _print(look, watch=watch, as_json=as_json)
    return SUCCESS if known else FAILED


async def _print(look: Callable[[], Awaitable[JobStatus]], *, watch: bool, as_json: bool) -> None:
    """Print a line, and with ``watch`` one more whenever something has changed, until the job has ended."""
    printed = ""
    while True:
        status = await look()
        line = json.dumps(status._asdict()) if as_json else _describe(status)
        if line != printed:
            click.echo(line)
        if not watch or not status.known:
            return
        printed = line
        await asyncio.sleep(REFRESH_INTERVAL)


def _describe(status: JobStatus) -> str:
    if not status.known:
        return _ENDED
    words = "running" if status.running else "queued"
    if status.denominator:
        words += f", {status.numerator:g} of {status.denominator:g}"
    if status.waiting_clients is not None:
        words += f", {pluralize(status.waiting_clients, 'client waits', 'clients wait')}"
    return words


def _draw(status: JobStatus) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=1.0, completed=status.fraction or 0.0, width=_BAR), _describe(status))
    return row
