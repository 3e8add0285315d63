"""``geartrain ping``."""

from __future__ import annotations

import click

from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.fan_out import report_errors
from geartrain.cli.options import json_option, server_option
from geartrain.cli.tables import Row, print_rows
from geartrain.client import Client

__all__ = ["ping"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain ping -s 10.0.0.1 -s 10.0.0.2",
    ],
)
@server_option
@json_option
def ping(servers: list[str], as_json: bool) -> int:
    """Send an echo request to each job server and show the round-trip time in milliseconds."""

    async def show() -> int:
        async with Client(servers) as client:
            answers, status = report_errors(await client.ping())
        rows: list[Row] = [{"server": server, "ms": seconds * 1000} for server, seconds in answers.items()]
        print_rows(rows, ("server", "ms"), as_json=as_json)
        return status

    return run_async(show())
