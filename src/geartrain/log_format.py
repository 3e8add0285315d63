"""Formats log records for a program: as text for people, or as JSON for machines."""

from __future__ import annotations

import copy
import json
import logging
import time
from typing import Any, Final

from geartrain.printable import printable

__all__ = ["JsonFormatter", "TextFormatter", "extra_fields"]

_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of ``extra`` with which a record was logged."""
    return {name: value for name, value in vars(record).items() if name not in _KNOWN}


class TextFormatter(logging.Formatter):
    """
    One line with time, level, logger, process and message; control characters are escaped.

    Args:
        tracebacks: Show tracebacks, not just exception messages.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._tracebacks = tracebacks

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Escape the line."""
        return printable(super().formatMessage(record), None)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Escape the traceback."""
        return printable(super().formatException(ei), None, keep="\n\t")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        if self._tracebacks or not record.exc_info:
            return super().format(record)
        error = record.exc_info[1]
        record = copy.copy(record)  # other handlers may show the traceback
        record.exc_info = record.exc_text = None
        return f"{super().format(record)}: {printable(str(error))}"


class JsonFormatter(logging.Formatter):
    """
    Formats a record as a JSON object in one line.

    It has ``time`` (UTC), ``level``, ``logger``, ``process``, ``message``, ``exception`` if there is one, and each
    field of ``extra``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        entry: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in extra_fields(record).items() if name not in entry}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            entry["exception"] = record.exc_text
        return json.dumps(entry, default=repr)
