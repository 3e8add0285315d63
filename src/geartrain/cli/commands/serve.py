"""``geartrain serve``."""

from __future__ import annotations

import asyncio

import click

from geartrain.cli.console import print_error
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.logs import configure_logging, verbose_option
from geartrain.cli.messages import error_reason
from geartrain.cli.streams import ignore_output_errors
from geartrain.server import JobServer

__all__ = ["serve"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain serve",
        "geartrain serve --listen 0.0.0.0 --port 0 -v",
    ],
)
@click.option("-l", "--listen", "host", default="127.0.0.1", show_default=True, metavar="HOST", help="Listen address.")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=4730,
    metavar="PORT",
    help="Listen port; 0 picks a free one.",
)
@click.option(
    "-j",
    "--job-retries",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Give up on a job after N lost workers; 0 means never.",
)
@click.option("--exceptions", is_flag=True, help="Send worker exceptions also to clients that did not request them.")
@click.option("--round-robin", is_flag=True, help="Serve the functions of each worker in turn.")
@verbose_option
def serve(host: str, port: int, job_retries: int, exceptions: bool, round_robin: bool, verbose: int) -> int:
    """
    Run geartrain's own job server until SIGTERM or Ctrl-C.

    It is meant for development and tests: it is a single process and stores nothing on disk. In production, use
    gearmand.
    """
    ignore_output_errors()
    configure_logging(verbose)
    server = JobServer(host, port, job_retries=job_retries, exceptions=exceptions, round_robin=round_robin)
    stop_requested = asyncio.Event()

    async def listen() -> int:
        try:
            await server.start()
        except (OSError, UnicodeError) as error:
            print_error(f"geartrain serve: cannot listen on {server.address}: {error_reason(error)}")
            return FAILED
        try:
            click.echo(f"A job server for development listens on {server.address}; it stores nothing on disk.")
            await stop_requested.wait()
        finally:
            await server.aclose()
        return SUCCESS

    return run_async(listen(), lambda _: stop_requested.set())
