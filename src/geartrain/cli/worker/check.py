"""``geartrain worker --check``: whether a worker could run, for deployment pipelines."""

from __future__ import annotations

import logging

import click

from geartrain.cli.console import print_error
from geartrain.cli.exit_status import NO_SERVER, SUCCESS
from geartrain.cli.messages import describe_server_error
from geartrain.client import Client
from geartrain.worker import Worker

__all__ = ["check_servers"]


async def check_servers(worker: Worker) -> int:
    """Print what a worker is, connect to each of its job servers once, and return the exit status."""
    click.echo(worker.describe())
    status = SUCCESS
    logger = logging.Logger("geartrain.check")  # what it would log is printed below
    logger.addHandler(logging.NullHandler())
    async with Client(worker.job_servers, tls=worker.tls, logger=logger) as client:
        for server, outcome in (await client.ping()).items():
            if isinstance(outcome, BaseException):
                print_error(f"geartrain worker: {describe_server_error(server, outcome)}")
                status = NO_SERVER
            else:
                click.echo(f"job server {server}: answered within {outcome * 1000:.1f} ms")
    return status
