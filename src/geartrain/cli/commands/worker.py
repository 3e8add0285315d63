"""``geartrain worker``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from geartrain.cli.event_loop import run_async
from geartrain.cli.exit_status import SUCCESS
from geartrain.cli.logs import configure_logging, verbose_option
from geartrain.cli.options import name, server_option
from geartrain.cli.streams import ignore_output_errors
from geartrain.cli.worker.command_function import CommandError, CommandFunction
from geartrain.cli.worker.supervisor import JOB_DONE, MAX_FAILURES, Supervisor
from geartrain.cli.worker.worker_loader import load_worker
from geartrain.worker import Worker
from geartrain.worker.exceptions import format_exception

__all__ = ["worker"]


@click.command(short_help="Run a command for each job, or a Python worker.")
@click.argument("target", type=name, metavar="FUNCTION | MODULE:WORKER")
@click.argument("command", nargs=-1, metavar="[-- COMMAND ...]")
@server_option
@click.option("-c", "--concurrency", type=click.IntRange(1), default=1, help="With COMMAND: so many jobs at a time.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="With COMMAND: end after N jobs.")
@click.option("-t", "--timeout", type=float, metavar="SECONDS", help="With COMMAND: kill it when it takes longer.")
@click.option("-l", "--lines", is_flag=True, help="With COMMAND: send each line of its output as it comes.")
@click.option("--keep-newline", is_flag=True, help="With --lines: leave the newline.")
@click.option(
    "--also", type=name, multiple=True, metavar="FUNCTION", help="With COMMAND: offer this function, too; repeatable."
)
@click.option("--prefix", type=name, default="", help="With COMMAND: a namespace: PREFIX, a tab, FUNCTION is offered.")
@click.option("--client-id", type=name, help="With COMMAND: its name in the list of `geartrain workers`.")
@click.option("--grace", type=float, metavar="SECONDS", help="With COMMAND: what jobs get to end when it is stopped.")
@click.option("-p", "--processes", type=click.IntRange(1), metavar="N", help="With WORKER: N processes, kept running.")
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    default=MAX_FAILURES,
    show_default=True,
    metavar="N",
    help="With --processes: give up when a process has failed N times in a row; 0: never.",
)
@click.option("--reload", is_flag=True, help="With WORKER: start anew when a Python file below this directory changes.")
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input ends.")
@verbose_option
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
    supervised: bool,
    verbose: int,
    **options: Any,
) -> int:
    """
    Offer FUNCTION, and run COMMAND for each job; or run WORKER, a Worker in the Python module MODULE.

    COMMAND gets the workload as its standard input; its standard output is the result. Exit status 0 completes the job,
    1 fails it, any other one is an exception with what the command said on standard error. It finds the job in
    GEARMAN_FUNCTION, GEARMAN_HANDLE, GEARMAN_UNIQUE and GEARMAN_SERVER.

    WORKER is a geartrain.Worker, or a function that makes one of a list of job servers. With --processes, one that ends
    is started anew.

    SIGTERM and Ctrl-C let the jobs in hand end; a second one gives them back at once.
    """
    ignore_output_errors()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if command:
        _refuse(given & {"processes", "max_failures", "reload"}, "goes with MODULE:WORKER, not with a COMMAND")
        configure_logging(verbose, tracebacks=False)
        served = _make_command_worker((target, *options.pop("also")), command, servers, **options)
        return run_async(_serve(served), served.stop)
    if ":" not in target:
        raise click.UsageError(
            f"give a command, as in `geartrain worker {target or 'FUNCTION'} -- cat`, or MODULE:WORKER"
        )
    _refuse(given & options.keys(), "goes with a COMMAND; set it in the Worker")
    if processes is not None or reload:
        again = [sys.executable, "-m", "geartrain", "worker", "--supervised", *(["-v"] * verbose), target]
        again += [f"--server={server}" for server in servers if "servers" in given]
        sources = _find_directory() if reload else None
        supervisor = Supervisor(again, processes or 1, sources, max_failures=max_failures)
        return run_async(supervisor.run(), supervisor.stop)
    control = _take_control_socket() if supervised else None
    configure_logging(verbose)
    served = load_worker(target, servers, servers_given="servers" in given)
    return run_async(_serve(served, control), served.stop)


def _find_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise click.UsageError(
            f"--reload watches the current directory, which cannot be found: {error.strerror}"
        ) from error


def _refuse(names: set[str], why: str) -> None:
    for option in sorted(names):
        raise click.UsageError(f"--{option.replace('_', '-')} {why}")


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
        raise click.UsageError(f"there is no program {command[0]}")
    call = CommandFunction(command, lines=lines, keep_newline=keep_newline)
    try:
        made = Worker(
            servers,
            concurrency=concurrency,
            prefix=prefix,
            client_id=client_id,
            grace=grace,
            max_jobs=count,
            format_exception=_format_exception,
        )
        for name in functions:
            made.function(name, timeout=timeout)(call)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return made


def _format_exception(error: BaseException) -> str:
    return str(error) if isinstance(error, CommandError) else format_exception(error)


def _take_control_socket() -> socket.socket:
    """Move the connection to the supervisor away from standard input, where functions would read from it."""
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return control


async def _serve(served: Worker, control: socket.socket | None = None) -> int:
    if control is None:
        await served.run()
        return SUCCESS
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(control)
        served.stop()

    loop.add_reader(control, stop)
    with control:
        await served.run()
        loop.remove_reader(control)
        statistics = served.statistics()
        if statistics.completed + statistics.failed + statistics.raised:
            with contextlib.suppress(OSError):  # the supervisor has gone
                control.send(JOB_DONE)
    return SUCCESS
