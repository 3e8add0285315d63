"""``geartrain demo``."""

from __future__ import annotations

from pathlib import Path

import click

from geartrain.cli.console import make_console
from geartrain.cli.demo.run import run_demo
from geartrain.cli.demo.text_files import TextFile, find_text_files
from geartrain.cli.demo.worker_processes import WorkerProcessError
from geartrain.cli.event_loop import run_async
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.options import parse_servers

__all__ = ["demo"]


@click.command(short_help="See it work: count the words of files, and lose a worker.")
@click.argument("paths", nargs=-1, metavar="[PATH ...]", type=click.Path(path_type=Path))
@click.option(
    "--job-servers",
    metavar="A[,B]",
    default="",
    callback=lambda context, parameter, text: parse_servers([text]),
    help="Addresses of job servers, host:port. Default: one is started in this process.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 60),
    default=0.002,
    show_default=True,
    metavar="SECONDS",
    help="How long workers rest after each 64 lines, so that there is something to watch; 0 for full speed.",
)
def demo(paths: tuple[Path, ...], job_servers: list[str], pause: float) -> int:
    """
    Count the words of files: a job for each, two worker processes, one of which is killed in the middle of a file.

    PATHs are text files, and directories that hold some. Default: the Python files of geartrain and of the standard
    library.
    """
    for path in paths:
        if not path.exists():
            raise click.UsageError(f"there is no file or directory {path}")
    try:
        files = find_text_files(paths)
    except OSError as error:
        raise click.UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not files:
        raise click.UsageError(f"there is no text file in {', '.join(map(str, paths))}")
    try:
        return run_async(_demo(files, job_servers, pause))
    except WorkerProcessError as error:
        raise click.ClickException(str(error)) from error


async def _demo(files: list[TextFile], job_servers: list[str], pause: float) -> int:
    outcome = await run_demo(files, job_servers, pause, make_console())
    return FAILED if outcome.failures else SUCCESS
