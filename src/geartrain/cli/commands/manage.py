"""Commands that change job servers: ``cancel``, ``maxqueue``, ``create`` and ``drop``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import click

from geartrain.admin import Admin
from geartrain.cli.console import print_error
from geartrain.cli.event_loop import run_async
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.fan_out import query_servers
from geartrain.cli.handles import parse_handle
from geartrain.cli.options import parse_name, server_option
from geartrain.client import Client

__all__ = ["cancel", "create", "drop", "maxqueue"]


@click.command(short_help="Cancel queued jobs.")
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


@click.command(short_help="Limit the queue of a function.")
@click.argument("function", type=parse_name)
@click.argument("limits", nargs=-1, required=True, type=click.IntRange(0, 2**31 - 1), metavar="LIMIT | HIGH NORMAL LOW")
@server_option
def maxqueue(function: str, limits: tuple[int, ...], servers: list[str]) -> int:
    """
    Make the job servers reject jobs for FUNCTION once it has LIMIT queued and running jobs; 0 removes the limit.

    Three limits apply to submissions of high, normal and low priority respectively. gearmand ignores the limits of a
    function that does not exist yet: see `geartrain create`.
    """
    if len(limits) not in (1, 3):
        raise click.UsageError(f"expected one limit, or three (high, normal, low), got {len(limits)}")
    named_limits = dict(zip(("limit",) if len(limits) == 1 else ("high", "normal", "low"), limits, strict=True))
    return _update_servers(servers, lambda admin: admin.set_max_queue(function, **named_limits))


@click.command(short_help="Create a function on the job servers.")
@click.argument("function", type=parse_name)
@server_option
def create(function: str, servers: list[str]) -> int:
    """Create FUNCTION on the job servers before any worker registers it."""
    return _update_servers(servers, lambda admin: admin.create_function(function))


@click.command(short_help="Remove a function from the job servers.")
@click.argument("function", type=parse_name)
@server_option
def drop(function: str, servers: list[str]) -> int:
    """
    Remove FUNCTION from the job servers. It must not be registered by any worker.

    Do not drop a function with queued jobs: gearmand removes it anyway, and no worker ever receives them.
    """
    return _update_servers(servers, lambda admin: admin.drop_function(function))


def _update_servers(servers: Sequence[str], update: Callable[[Admin], Awaitable[None]]) -> int:
    async def update_all() -> int:
        _, status = await query_servers(servers, update)
        return status

    return run_async(update_all())
