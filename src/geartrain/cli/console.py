"""Where commands print to."""

from __future__ import annotations

import os
import sys

import click
from rich.console import Console

from geartrain.cli.exits import BROKEN_PIPE
from geartrain.cli.running import stop

__all__ = ["complain", "make_console", "silence_output"]


def make_console() -> Console:
    """Return a console for standard output: on a terminal with colours, elsewhere without any control code."""
    return _Console(highlight=False)


def complain(text: str) -> None:
    """Print a line on standard error."""
    click.echo(text, err=True)


def silence_output() -> None:
    """Drop what is printed from now on, and what is still buffered: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # As in `geartrain demo | head -1`. It may be anybody who prints, a callback too: so it is not for them to fail.
        silence_output()
        stop(BROKEN_PIPE)
