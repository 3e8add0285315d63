"""What sets something: ``cancel``, ``maxqueue``, ``create``, ``drop``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import click

from geartrain.admin import Admin
from geartrain.cli.console import print_error
from geartrain.cli.event_loop import run_async
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.fan_out import query_servers
from geartrain.cli.handles import parse_handle
from geartrain.cli.options import name, server_option
from geartrain.client import Client

__all__ = ["cancel", "create", "drop", "maxqueue"]


@click.command(short_help="Take jobs from their queues.")
@click.argument("handles", type=name, nargs=-1, required=True, metavar="HANDLE ...")
@server_option
def cancel(handles: tuple[str, ...], servers: list[str]) -> int:
    """
    Have job servers drop jobs that are queued; those who wait for them are told that they failed.

    A HANDLE is what `geartrain submit --background` printed, or what `JobHandle.token()` returned; without a job server
    in front, -s names the job server. A job that is already running is not stopped.
    """
    jobs = [parse_handle(handle, servers) for handle in handles]

    async def cancel_all() -> int:
        status = SUCCESS
        async with Client(servers) as client:
            for job in jobs:
                if not await client.cancel(job):
                    print_error(f"geartrain: {job.server} knows no job {job.handle}")
                    status = FAILED
        return status

    return run_async(cancel_all())


@click.command(short_help="Limit how many jobs a function may have.")
@click.argument("function", type=name)
@click.argument("limits", nargs=-1, required=True, type=click.IntRange(0, 2**31 - 1), metavar="LIMIT | HIGH NORMAL LOW")
@server_option
def maxqueue(function: str, limits: tuple[int, ...], servers: list[str]) -> int:
    """
    Have the job servers refuse jobs of a FUNCTION that has so many, running ones included; 0 is no limit.

    Three limits are those for submissions of high, normal and low priority. gearmand takes no notice of a function that
    it does not know yet: see `geartrain create`.
    """
    if len(limits) not in (1, 3):
        raise click.UsageError(f"give one limit, or three (high, normal, low), not {len(limits)}")
    named = dict(zip(("limit",) if len(limits) == 1 else ("high", "normal", "low"), limits, strict=True))
    return _tell(servers, lambda admin: admin.set_max_queue(function, **named))


@click.command(short_help="Make a function known.")
@click.argument("function", type=name)
@server_option
def create(function: str, servers: list[str]) -> int:
    """Have the job servers know a FUNCTION before a worker or a job names it."""
    return _tell(servers, lambda admin: admin.create_function(function))


@click.command(short_help="Forget a function.")
@click.argument("function", type=name)
@server_option
def drop(function: str, servers: list[str]) -> int:
    """
    Have the job servers forget a FUNCTION that no worker offers.

    Do not drop one that has queued jobs: gearmand forgets it all the same, and no worker ever gets them.
    """
    return _tell(servers, lambda admin: admin.drop_function(function))


def _tell(servers: Sequence[str], call: Callable[[Admin], Awaitable[None]]) -> int:
    async def tell() -> int:
        _, status = await query_servers(servers, call)
        return status

    return run_async(tell())
