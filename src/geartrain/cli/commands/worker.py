"""``geartrain worker``."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.logs import LogOptions, log_options
from geartrain.cli.options import parse_http_address, parse_name, server_option
from geartrain.cli.streams import ignore_output_errors
from geartrain.cli.worker.command_function import CommandError, CommandFunction
from geartrain.cli.worker.serving import serve_supervised, serve_supervisor, serve_worker
from geartrain.cli.worker.supervisor import MAX_FAILURES, Supervisor
from geartrain.cli.worker.worker_loader import check_worker, load_worker
from geartrain.program import log_start, log_stop_signal
from geartrain.worker import Worker
from geartrain.worker.exceptions import format_exception

if TYPE_CHECKING:
    from geartrain.http_service import HttpAddress

__all__ = ["worker"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain worker reverse -- rev",
        "geartrain worker thumbnail -c 4 -t 30 -- convert - -resize 100x100 jpg:-",
        "geartrain worker app:worker --processes 4 -s 10.0.0.1 -s 10.0.0.2",
        "geartrain worker app:worker --reload",
        "geartrain worker app:worker --check --log-format json",
        "geartrain worker app:worker --http 127.0.0.1:9100",
    ],
)
@click.argument("target", type=parse_name, metavar="FUNCTION | MODULE:WORKER")
@click.argument("command", nargs=-1, metavar="[-- COMMAND ...]")
@server_option
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="With COMMAND: number of jobs to run concurrently.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="With COMMAND: exit after N jobs. Defaults to no limit.",
)
@click.option(
    "-t",
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="With COMMAND: kill it after this time. Defaults to no limit.",
)
@click.option("-l", "--lines", is_flag=True, help="With COMMAND: send each line of its output immediately, as data.")
@click.option("--keep-newline", is_flag=True, help="With --lines: keep the newline.")
@click.option(
    "--also",
    type=parse_name,
    multiple=True,
    metavar="FUNCTION",
    help="With COMMAND: also register this function; repeatable.",
)
@click.option(
    "--prefix",
    type=parse_name,
    default="",
    show_default="none",
    metavar="PREFIX",
    help="With COMMAND: namespace: register the function named PREFIX, a tab, FUNCTION.",
)
@click.option(
    "--client-id",
    type=parse_name,
    metavar="ID",
    help="With COMMAND: the worker's name in `geartrain workers`. Defaults to host:pid.",
)
@click.option(
    "--grace",
    type=float,
    metavar="SECONDS",
    help="With COMMAND: how long a shutdown waits for the running jobs. Defaults to no limit.",
)
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="With WORKER: run it in N processes, and replace those that exit. Defaults to this process alone.",
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    default=MAX_FAILURES,
    metavar="N",
    help="With --processes: give up when a process fails N times in a row; 0 means never.",
)
@click.option(
    "--reload", is_flag=True, help="With WORKER: restart when a Python file below the current directory changes."
)
@click.option(
    "--http",
    "http",
    metavar="HOST:PORT",
    callback=parse_http_address,
    help="Serve /livez, /readyz and /metrics there. Without HOST, only to this machine. Defaults to off.",
)
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--record-metrics", is_flag=True, hidden=True, help="Record metrics, for the supervisor to serve.")
@click.option("--check", is_flag=True, help="With WORKER: only import it, list its functions and connect once.")
@log_options
@click.pass_context
def worker(
    context: click.Context,
    /,
    target: str,
    command: tuple[str, ...],
    servers: list[str],
    processes: int | None,
    max_failures: int,
    reload: bool,
    http: HttpAddress | None,
    supervised: bool,
    record_metrics: bool,
    check: bool,
    logs: LogOptions,
    **options: Any,
) -> int:
    """
    Run COMMAND for each job of FUNCTION, or run a Python worker, WORKER in the module MODULE.

    COMMAND reads the workload from standard input and writes the result to standard output. Exit status 0 completes the
    job and 1 fails it. Any other status raises an exception with the text from standard error. The job's attributes are
    in GEARMAN_FUNCTION, GEARMAN_HANDLE, GEARMAN_UNIQUE and GEARMAN_SERVER.

    WORKER is a geartrain.Worker, or a factory that takes a list of job servers. With --processes, a process that exits
    is restarted.

    On SIGTERM or Ctrl-C the worker finishes its running jobs; a second signal returns them to the job server
    immediately.
    """
    ignore_output_errors()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if command:
        _reject_options(given & {"processes", "max_failures", "reload", "check"}, "applies only to MODULE:WORKER")
        logs.apply(tracebacks=False)
        instance = _make_command_worker((target, *options.pop("also")), command, servers, **options)
        log_start()
        return run_async(serve_worker(instance, http), partial(_stop, instance))
    if ":" not in target:
        raise click.UsageError(
            f"expected a command, as in `geartrain worker {target or 'FUNCTION'} -- cat`, or MODULE:WORKER"
        )
    _reject_options(given & options.keys(), "applies only to COMMAND; set it in the Worker")
    logs.apply()
    if not check and (processes is not None or reload):
        child_command = [sys.executable, "-m", "geartrain", "worker", "--supervised", *logs.arguments, target]
        child_command += [f"--server={server}" for server in servers if "servers" in given]
        source_directory = _current_directory() if reload else None
        supervisor = Supervisor(child_command, processes or 1, source_directory, max_failures=max_failures)
        log_start()
        return run_async(serve_supervisor(supervisor, http), partial(_stop, supervisor))
    control_socket = _take_control_socket() if supervised else None
    instance = load_worker(target, servers, has_server_option="servers" in given)
    check_worker(instance)
    if check:
        from geartrain.cli.worker.check import check_servers  # loads the client

        return run_async(check_servers(instance))
    if control_socket is not None:  # the supervisor has received the signal
        serving = serve_supervised(instance, control_socket, record_metrics=record_metrics)
        return run_async(serving, lambda _: instance.stop())
    log_start()
    return run_async(serve_worker(instance, http), partial(_stop, instance))


def _stop(running: Worker | Supervisor, number: int) -> None:
    log_stop_signal(number)
    running.stop()


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise click.UsageError(f"--reload requires a current directory: {error.strerror}") from error


def _reject_options(names: set[str], reason: str) -> None:
    for option in sorted(names):
        raise click.UsageError(f"--{option.replace('_', '-')} {reason}")


def _make_command_worker(
    functions: Sequence[str],
    command: Sequence[str],
    servers: Sequence[str],
    *,
    concurrency: int,
    count: int | None,
    timeout: float | None,
    lines: bool,
    keep_newline: bool,
    prefix: str,
    client_id: str | None,
    grace: float | None,
) -> Worker:
    if shutil.which(command[0]) is None:
        raise click.UsageError(f"command not found: {command[0]}")
    run_command = CommandFunction(command, lines=lines, keep_newline=keep_newline)
    try:
        instance = Worker(
            servers,
            concurrency=concurrency,
            prefix=prefix,
            client_id=client_id,
            grace=grace,
            max_jobs=count,
            format_exception=_format_exception,
        )
        for name in functions:
            instance.function(name, timeout=timeout)(run_command)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return instance


def _format_exception(error: BaseException) -> str:
    return str(error) if isinstance(error, CommandError) else format_exception(error)


def _take_control_socket() -> socket.socket:
    """Move the connection to the supervisor away from standard input, which functions may read."""
    control_socket = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    return control_socket
