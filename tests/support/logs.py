"""Filters for captured log records."""

from __future__ import annotations

import logging
from collections.abc import Iterable

_OUTAGES = ("cannot connect to ", "lost the connection to ")


def warnings(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return the messages that are shown if logging is not configured."""
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def outages(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return the warnings about unreachable job servers."""
    return [message for message in warnings(records) if message.startswith(_OUTAGES)]


def other_warnings(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return all other warnings."""
    return [message for message in warnings(records) if not message.startswith(_OUTAGES)]
