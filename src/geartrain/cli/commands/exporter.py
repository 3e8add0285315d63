"""``geartrain exporter``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import click

from geartrain.admin import AdminGroup
from geartrain.cli.console import print_error
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.exporter.readings import Reading, SharedReader
from geartrain.cli.logs import configure_logging, verbose_option
from geartrain.cli.messages import error_reason
from geartrain.cli.options import parse_http_address, server_option
from geartrain.cli.streams import ignore_output_errors
from geartrain.errors import GearmanError
from geartrain.http_service import HttpAddress, HttpService, route

__all__ = ["exporter"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain exporter -s 10.0.0.1 -s 10.0.0.2 --listen 0.0.0.0:9418",
    ],
)
@server_option
@click.option(
    "-l",
    "--listen",
    "address",
    default="127.0.0.1:9418",
    metavar="HOST:PORT",
    callback=parse_http_address,
    help="Listen address; port 0 picks a free one. Use 0.0.0.0:9418 for all interfaces.",
)
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    metavar="SECONDS",
    help="How long to wait for a connection to a job server, and then for its answers.",
)
@verbose_option
def exporter(servers: list[str], address: HttpAddress, timeout: float, verbose: int) -> int:
    """
    Serve the metrics of job servers to Prometheus, at /metrics, until SIGTERM or Ctrl-C.

    Each scrape reads each job server once; scrapes at the same time share what is read. A job server that does not
    answer has the metric gearman_up 0.
    """
    try:
        import prometheus_client  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.UsageError("it requires prometheus-client: pip install 'geartrain[cli,metrics]'") from error
    ignore_output_errors()
    configure_logging(verbose)
    stop_requested = asyncio.Event()
    return run_async(_serve(servers, address, timeout, stop_requested), lambda _: stop_requested.set())


async def _serve(servers: Sequence[str], address: HttpAddress, timeout: float, stop_requested: asyncio.Event) -> int:
    async with AdminGroup(servers, timeout=timeout, connect_timeout=timeout) as group:
        service = _make_service(group, address)
        try:
            service.start()
        except OSError as error:
            print_error(f"geartrain exporter: cannot listen on {address}: {error_reason(error)}")
            return FAILED
        try:
            click.echo(f"The metrics of {', '.join(group.admins)} are at http://{service.address}/metrics")
            await stop_requested.wait()
        finally:
            service.close()
    return SUCCESS


def _make_service(group: AdminGroup, address: HttpAddress) -> HttpService:
    # Imported here, because the help must not require the extra.
    from prometheus_client import CollectorRegistry, make_wsgi_app

    from geartrain.cli.exporter.collector import JobServerCollector

    loop = asyncio.get_running_loop()
    reader = SharedReader(group)

    def read() -> Mapping[str, Reading | GearmanError]:
        return asyncio.run_coroutine_threadsafe(reader.read(), loop).result()

    registry = CollectorRegistry()
    registry.register(JobServerCollector(read))
    return HttpService(address, route({"/metrics": make_wsgi_app(registry)}))
