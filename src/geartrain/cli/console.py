"""Console output shared by all commands."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import click

from geartrain.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["can_redraw", "is_terminal", "make_console", "print_error"]


def is_terminal() -> bool:
    """Return whether standard output is a terminal, whatever variables such as ``FORCE_COLOR`` say."""
    return sys.stdout.isatty()


def can_redraw(stream: TextIO) -> bool:
    """Return whether a standard stream is a terminal on which output can be replaced."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def make_console() -> Console:
    """Return a console for standard output; it emits control codes only on a terminal."""
    from rich.console import Console  # a third of the start-up time, and not needed in a pipe

    return Console(highlight=False)


def print_error(text: str) -> None:
    """Print a line on standard error, with control characters escaped."""
    click.echo(printable(text, None), err=True)
