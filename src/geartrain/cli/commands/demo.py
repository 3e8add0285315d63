"""``geartrain demo``."""

from __future__ import annotations

from pathlib import Path

import click

from geartrain.cli.console import make_console
from geartrain.cli.demo.run import run_demo
from geartrain.cli.demo.text_files import TextFile, find_text_files
from geartrain.cli.demo.worker_processes import WorkerProcessError
from geartrain.cli.event_loop import run_async
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.exit_status import FAILED, SUCCESS
from geartrain.cli.options import parse_servers

__all__ = ["demo"]


@click.command(
    cls=ExampleCommand,
    examples=[
        "geartrain demo",
        "geartrain demo --job-servers 127.0.0.1:4730 ~/texts",
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH ...]", type=click.Path(path_type=Path))
@click.option(
    "--job-servers",
    metavar="A[,B]",
    default="",
    show_default=False,
    callback=lambda context, parameter, text: parse_servers([text]),
    help="Job server addresses, host:port. Defaults to one started in this process.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 60),
    default=0.002,
    metavar="SECONDS",
    help="Pause after every 64 lines, to make progress visible; 0 runs at full speed.",
)
def demo(paths: tuple[Path, ...], job_servers: list[str], pause: float) -> int:
    """
    Count the words in files with two worker processes, one of which is killed in the middle of a file.

    Each PATH is a text file or a directory that contains text files. Defaults to the Python files of geartrain and of
    the standard library.
    """
    for path in paths:
        if not path.exists():
            raise click.UsageError(f"no such file or directory: {path}")
    try:
        files = find_text_files(paths)
    except OSError as error:
        raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    if not files:
        raise click.UsageError(f"no text files in {', '.join(map(str, paths))}")
    try:
        return run_async(_demo(files, job_servers, pause))
    except WorkerProcessError as error:
        raise click.ClickException(str(error)) from error


async def _demo(files: list[TextFile], job_servers: list[str], pause: float) -> int:
    result = await run_demo(files, job_servers, pause, make_console())
    return FAILED if result.failures else SUCCESS
