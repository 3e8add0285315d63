"""Log output on standard error."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from geartrain.printable import printable

__all__ = ["configure_logging", "verbose_option"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


def verbose_option(command: F) -> F:
    """Add the option ``-v``, which passes ``verbose``, the number of times it was given, to a command."""
    return click.option(
        "-v", "--verbose", count=True, show_default=False, help="Log connections; if repeated, every packet."
    )(command)


def configure_logging(verbose: int, *, tracebacks: bool = True) -> None:
    """Log to standard error, unless the root logger already has handlers."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(tracebacks=tracebacks))
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(handler)
    logging.getLogger("geartrain").setLevel(_LEVELS[min(verbose, 2)])


class _Formatter(logging.Formatter):
    """
    Escapes control characters in messages and tracebacks.

    Args:
        tracebacks: Show tracebacks, not just exception messages. When a user's command fails, a traceback would only
            show geartrain's code.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._tracebacks = tracebacks

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return printable(super().formatMessage(record), None)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return printable(super().formatException(ei), None, keep="\n\t")

    def format(self, record: logging.LogRecord) -> str:
        if self._tracebacks or not record.exc_info:
            return super().format(record)
        error = record.exc_info[1]
        record = copy.copy(record)  # other handlers may show the traceback
        record.exc_info = record.exc_text = None
        return f"{super().format(record)}: {printable(str(error))}"
