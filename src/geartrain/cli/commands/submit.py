"""``geartrain submit``."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, BinaryIO

import click

from geartrain.cli.console import can_redraw
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.options import json_option, parse_name, server_option
from geartrain.cli.submit.output import JobOutput, JobTitle, JsonOutput, TextOutput
from geartrain.cli.submit.printer import ResultPrinter
from geartrain.cli.submit.progress import ProgressDisplay
from geartrain.cli.submit.submitter import Submitter
from geartrain.cli.timespec import parse_time
from geartrain.cli.workload_source import MAX_WORKLOAD, WorkloadError, read_workload, read_workloads
from geartrain.client import Client
from geartrain.client.task import Priority, Task, TaskOptions

__all__ = ["submit"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain submit greet World",
        "geartrain submit resize --file photo.jpg > small.jpg",
        "find . -name '*.jpg' -print0 | geartrain submit --null index",
        "tail -f orders | geartrain submit --lines --retry 2 --timeout 60 ship",
        "geartrain submit --background report 2027-01 --at 2027-02-01T03:00",
        "geartrain submit --lines --json price < articles | jq -c 'select(.error)'",
    ],
)
@click.argument("function", type=parse_name)
@click.argument("workload", required=False)
@server_option
@click.option(
    "-f",
    "--file",
    type=click.File("rb"),
    metavar="FILE",
    help="Read the workload from this file. Defaults to standard input.",
)
@click.option("-l", "--lines", is_flag=True, help="Submit a job for each line of the input.")
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="Submit a job for each NUL-terminated part of the input; end each result with a NUL.",
)
@click.option("--keep-newline", is_flag=True, help="With --lines: keep the newline in the workload.")
@click.option("-b", "--background", is_flag=True, help="Do not wait for the results; print the handles of the jobs.")
@click.option(
    "-u",
    "--unique",
    type=parse_name,
    metavar="KEY",
    help="Merge equal work: jobs of a function with the same key (up to 63 bytes) run once and share the "
    "result; - uses the workload as the key. Defaults to not merging jobs.",
)
@click.option(
    "-p",
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default="normal",
    help="The priority of the jobs.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Run in the background, not before TIME: 2027-01-31T12:00, +15m, or seconds since 1970. Defaults to now.",
)
@click.option(
    "-t",
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="Maximum time from submission to result, per job. Defaults to no limit.",
)
@click.option(
    "-r",
    "--retry",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Retry a failed job up to N times.",
)
@click.option(
    "--prefix",
    type=parse_name,
    default="",
    show_default="none",
    metavar="PREFIX",
    help="Namespace: submit to the function named PREFIX, a tab, FUNCTION.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    metavar="N",
    help="Maximum number of outstanding jobs.",
)
@click.option(
    "--also",
    type=parse_name,
    multiple=True,
    metavar="FUNCTION",
    help="Also submit each workload to this function; repeatable.",
)
@click.option(
    "--require-worker",
    is_flag=True,
    help="Fail immediately if no worker is registered for the function, instead of waiting for one.",
)
@json_option
@click.option("--label", is_flag=True, help="Prefix each line of the results with the name of the function.")
def submit(
    function: str,
    workload: str | None,
    servers: list[str],
    file: BinaryIO | None,
    lines: bool,
    null: bool,
    keep_newline: bool,
    prefix: str,
    limit: int,
    also: tuple[str, ...],
    label: bool,
    as_json: bool,
    **task: Any,
) -> int:
    """
    Submit a job and print its result.

    WORKLOAD defaults to all of standard input. Data that the worker sends before the result is printed immediately;
    warnings go to standard error. The results of several jobs are printed in the order of their workloads.

    The exit status is 1 if a job failed, and 3 if no job server could be reached.
    """
    if (workload is not None) + (file is not None) > 1 or (workload is not None) + lines + null > 1:
        raise click.UsageError("use only one of WORKLOAD and --file, and only one of WORKLOAD, --lines and --null")
    separator = b"\0" if null else b"\n" if lines else b""
    workloads = _choose_workloads(workload, file, separator, keep_separator=keep_newline)
    functions = (function, *also)
    single_job = not separator and not also
    try:
        options = _make_options(functions, prefix, **task)
        client = Client(servers, prefix=prefix, max_packet_size=MAX_WORKLOAD)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    has_exact_output = single_job and not options["background"] and not as_json and not sys.stdout.isatty()
    terminator = b"\0" if null else b"" if has_exact_output else b"\n"

    async def submit_all() -> int:
        progress = _make_progress_display(single_job=single_job, reads_input=workload is None and file is None)
        printer = ResultPrinter(terminator, progress, terminates_empty=not single_job)

        def make_output(title: JobTitle) -> JobOutput:
            if as_json:
                return JsonOutput(printer, title)
            return TextOutput(
                printer, title, f"{title.function}: ".encode("utf-8", "surrogateescape") if label else b""
            )

        async with client:
            submitter = Submitter(
                client,
                functions,
                options,
                limit=limit,
                unit="part" if null else "line" if lines else None,
                make_output=make_output,
                printer=printer,
                progress=progress,
            )
            return await submitter.run(workloads)

    try:
        return run_async(submit_all())
    except WorkloadError as error:
        raise click.UsageError(str(error)) from error


def _make_options(
    functions: Sequence[str],
    prefix: str,
    *,
    background: bool,
    unique: str | None,
    priority: str,
    at: str | None,
    timeout: float | None,
    retry: int,
    require_worker: bool,
) -> TaskOptions:
    options: TaskOptions = {
        "background": background or at is not None,
        "unique": unique,
        "priority": Priority(priority),
        "run_at": None if at is None else parse_time(at),
        "timeout": timeout,
        "retry_count": retry,
        "require_worker": require_worker,
    }
    for function in functions:  # validates the options before anything is sent
        Task(f"{prefix}\t{function}" if prefix else function, **options)
    return options


def _make_progress_display(*, single_job: bool, reads_input: bool) -> ProgressDisplay:
    """Return a suitable display. It would disturb whoever types the workloads of several jobs."""
    is_typed = reads_input and sys.stdin is not None and sys.stdin.isatty()
    if not can_redraw(sys.stderr) or (is_typed and not single_job):
        return ProgressDisplay()
    from geartrain.cli.submit.live_progress import LiveProgressDisplay

    return LiveProgressDisplay(single_job=single_job)


def _choose_workloads(
    workload: str | None, file: BinaryIO | None, separator: bytes, *, keep_separator: bool
) -> AsyncIterator[bytes]:
    if workload is not None:
        return _yield_one(os.fsencode(workload))
    if file is None and sys.stdin is None:
        raise click.UsageError("standard input is closed: use WORKLOAD or --file")
    return _read((file or sys.stdin).fileno(), separator, keep_separator=keep_separator)


async def _yield_one(workload: bytes) -> AsyncIterator[bytes]:
    yield workload


async def _read(descriptor: int, separator: bytes, *, keep_separator: bool) -> AsyncIterator[bytes]:
    if not separator:
        yield await read_workload(descriptor)
        return
    async for part in read_workloads(descriptor, separator, keep_separator=keep_separator):
        yield part
