"""Where commands print to."""

from __future__ import annotations

import click
from rich.console import Console

from geartrain.printable import printable

__all__ = ["make_console", "print_error"]


def make_console() -> Console:
    """Return a console for standard output: on a terminal with colours, elsewhere without any control code."""
    return Console(highlight=False)


def print_error(text: str) -> None:
    """Print a line on standard error, whatever the text contains."""
    click.echo(printable(text, None), err=True)
