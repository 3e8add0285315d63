"""Commands about single jobs: ``job`` and ``cancel``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Final

import click

from geartrain.cli.console import can_redraw, make_console, print_error
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.handles import parse_handle
from geartrain.cli.job_monitor import JobMonitor, JobState
from geartrain.cli.messages import pluralize
from geartrain.cli.options import json_option, parse_name, server_option
from geartrain.cli.watch import REFRESH_INTERVAL
from geartrain.client import Client
from geartrain.handle import JobHandle

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["cancel", "job"]

_BAR: Final = 40  # columns
_UNKNOWN: Final = "unknown: the job has ended or never existed"
_CANCELLED: Final = "cancelled: no worker will get it"


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain job 10.0.0.1:4730//H:lap:1",
        "geartrain job --watch -s 10.0.0.1 H:lap:1",
        "geartrain job --unique report-2027-01",
    ],
)
@click.argument("handle", type=parse_name)
@server_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Update every second until the job has ended.")
@click.option("-u", "--unique", is_flag=True, help="HANDLE is a unique; query the job server it maps to.")
def job(handle: str, servers: list[str], as_json: bool, watch: bool, unique: bool) -> int:
    """
    Show the status and progress of a foreground or background job.

    HANDLE is the output of `geartrain submit --background` or the result of `JobHandle.token()`. If it does not include
    the job server, use -s. A job server forgets a job as soon as it ends: the exit status is then 1, or 0 if --watch
    has seen the job before. A queued job is shown as cancelled if it was cancelled or its last client has left.
    """
    target: JobHandle | str = handle if unique else parse_handle(handle, servers)
    try:
        return run_async(_show(servers, target, watch=watch, as_json=as_json))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def _show(servers: list[str], target: JobHandle | str, *, watch: bool, as_json: bool) -> int:
    async with Client(servers) as client, JobMonitor(client, target) as monitor:
        if watch and can_redraw(sys.stdout) and not as_json:
            await _redraw(monitor)
        else:
            await _print(monitor, watch=watch, as_json=as_json)
        return SUCCESS if monitor.was_known else FAILED


async def _redraw(monitor: JobMonitor) -> None:
    """Draw a bar until the job has ended, then print how."""
    from geartrain.cli.live_view import redraw

    state = await monitor.query()

    async def draw() -> RenderableType | None:
        nonlocal state
        state = await monitor.query()
        return None if state.has_ended else _draw(state)

    if not state.has_ended:
        await redraw(make_console(), draw)
    click.echo("the job has ended" if monitor.was_known and not state.is_cancelled else _describe(state))


async def _print(monitor: JobMonitor, *, watch: bool, as_json: bool) -> None:
    """Print a line and, with ``watch``, another one on each change until the job has ended."""
    printed = ""
    while True:
        state = await monitor.query()
        line = json.dumps({**state.status._asdict(), "cancelled": state.is_cancelled}) if as_json else _describe(state)
        if line != printed:
            click.echo(line)
        if not watch or state.has_ended:
            return
        printed = line
        await asyncio.sleep(REFRESH_INTERVAL)


def _describe(state: JobState) -> str:
    status = state.status
    if not status.known:
        return _UNKNOWN
    if state.is_cancelled:
        return _CANCELLED
    text = "running" if status.running else "queued"
    if status.denominator:
        text += f", {status.numerator:g} of {status.denominator:g}"
    if status.waiting_clients is not None:
        text += f", {pluralize(status.waiting_clients, 'client waits', 'clients wait')}"
    return text


def _draw(state: JobState) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=1.0, completed=state.status.fraction or 0.0, width=_BAR), _describe(state))
    return row


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain cancel 10.0.0.1:4730//H:lap:1",
        "geartrain cancel -s 10.0.0.1 H:lap:1 H:lap:2",
    ],
)
@click.argument("handles", type=parse_name, nargs=-1, required=True, metavar="HANDLE ...")
@server_option
def cancel(handles: tuple[str, ...], servers: list[str]) -> int:
    """
    Cancel queued jobs. They fail for the clients that wait for them.

    Each HANDLE is the output of `geartrain submit --background` or the result of `JobHandle.token()`. If it does not
    include the job server, use -s. A job that is already running is not stopped.
    """
    jobs = [parse_handle(handle, servers) for handle in handles]

    async def cancel_all() -> int:
        status = SUCCESS
        async with Client(servers) as client:
            for job in jobs:
                if not await client.cancel(job):
                    print_error(f"geartrain: no job {job.handle} on {job.server}")
                    status = FAILED
        return status

    return run_async(cancel_all())
