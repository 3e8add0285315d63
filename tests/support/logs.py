"""What the library has logged."""

from __future__ import annotations

import logging
from collections.abc import Iterable

_OUTAGES = ("cannot connect to ", "lost the connection to ")


def warnings(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return what is shown where nobody has configured logging."""
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def outages(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return the warnings of an unreachable job server."""
    return [message for message in warnings(records) if message.startswith(_OUTAGES)]


def other_warnings(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return the warnings of anything else."""
    return [message for message in warnings(records) if not message.startswith(_OUTAGES)]
