"""Console output shared by all commands."""

from __future__ import annotations

import click
from rich.console import Console

from geartrain.printable import printable

__all__ = ["make_console", "print_error"]


def make_console() -> Console:
    """Return a console for standard output; it emits control codes only on a terminal."""
    return Console(highlight=False)


def print_error(text: str) -> None:
    """Print a line on standard error, with control characters escaped."""
    click.echo(printable(text, None), err=True)
