"""Commands that change job servers: ``maxqueue``, ``create`` and ``drop``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import click

from geartrain.admin import Admin
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.fan_out import query_servers
from geartrain.cli.options import parse_name, server_option

__all__ = ["create", "drop", "maxqueue"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain maxqueue resize 1000",
        "geartrain maxqueue resize 1000 500 100",
        "geartrain maxqueue resize 0",
    ],
)
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


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain create resize -s 10.0.0.1 -s 10.0.0.2",
    ],
)
@click.argument("function", type=parse_name)
@server_option
def create(function: str, servers: list[str]) -> int:
    """Create FUNCTION on the job servers before any worker registers it."""
    return _update_servers(servers, lambda admin: admin.create_function(function))


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain drop resize -s 10.0.0.1 -s 10.0.0.2",
    ],
)
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
