"""Sends the log records of a process to the worker."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from geartrain.log_format import extra_fields
from geartrain.worker.prefork.messages import Logged
from geartrain.worker.processes.exception_transfer import describe_exception, rebuild_exception
from geartrain.worker.processes.messages import Raised

__all__ = ["RecordSender", "rebuild_record"]

_ATTRIBUTES: Final = (
    *("levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs"),
    *("relativeCreated", "thread", "threadName", "exc_text", "stack_info"),
)
_SENDABLE: Final = (str, int, float, bool, type(None))


class RecordSender(logging.Handler):
    """
    Sends each record instead of formatting it.

    Args:
        send: Sends a message to the worker.
    """

    def __init__(self, send: Callable[[Logged], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            attributes = {name: getattr(record, name) for name in _ATTRIBUTES}
            attributes |= {"msg": record.getMessage(), "process": os.getpid()}
            attributes |= {name: value for name, value in extra_fields(record).items() if type(value) in _SENDABLE}
            error = record.exc_info[1] if record.exc_info else None
            self._send(Logged(attributes, None if error is None else tuple(describe_exception(error))))
        except Exception:  # noqa: BLE001  # as the handlers of logging do
            self.handleError(record)


def rebuild_record(logged: Logged, name: str, process_name: str) -> logging.LogRecord:
    """Return a record that a process has sent, for the logger with this name."""
    record = logging.makeLogRecord({**logged.attributes, "name": name, "processName": process_name})
    if logged.raised is not None:
        error = rebuild_exception(Raised(*logged.raised))
        record.exc_info = (type(error), error, None)
    return record
