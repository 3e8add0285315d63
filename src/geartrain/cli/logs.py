"""What commands tell of their work on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["show_logs", "verbose_option"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


def verbose_option(command: F) -> F:
    """Give a command the option ``-v``: the argument ``verbose``, how often it was given."""
    return click.option("-v", "--verbose", count=True, help="Tell of connections; twice: of each packet.")(command)


def show_logs(verbose: int, *, tracebacks: bool = True) -> None:
    """Write geartrain's logs to standard error, unless somebody has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(message)s") if tracebacks else _Brief("%(asctime)s %(message)s")
    )
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(handler)
    logging.getLogger("geartrain").setLevel(_LEVELS[min(verbose, 2)])


class _Brief(logging.Formatter):
    """Without tracebacks: they would tell of our own code, where it is the command of a user that failed."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_info = record.exc_text = None
        return super().format(record)
