"""Describes exceptions that functions raise, for clients and for the log, whatever the exceptions' own methods do."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Final

from geartrain.printable import printable

__all__ = [
    "MAX_MESSAGE",
    "format_exception",
    "format_message",
    "format_traceback",
    "log_exception",
    "shorten_message",
    "type_name",
]

MAX_MESSAGE: Final = 8192  # characters
_MAX_TRACEBACK: Final = 64 * 1024  # characters

# A class may define these attributes itself, even as properties that raise.
_get_name: Final = type.__dict__["__name__"].__get__
_get_traceback: Final = BaseException.__dict__["__traceback__"].__get__


def type_name(value: object) -> str:
    """Return the name of a value's class. Never raises."""
    return str(_get_name(type(value)))


def format_exception(error: BaseException) -> str:
    """
    Format an exception as ``Type: message``, with at most 8,192 characters of the message.

    Never raises: if the exception's ``__str__`` does, the message says so.
    """
    return f"{type_name(error)}: {shorten_message(format_message(error))}"


def shorten_message(message: str) -> str:
    """Return at most 8,192 characters of a message, with a note if there are more."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}... [{len(message)} characters]"


def format_message(error: BaseException) -> str:
    """Return the whole message of an exception. Never raises: if ``__str__`` does, the message says so."""
    try:
        return str.__str__(str(error))  # a subclass of str may be returned, which may override methods
    except BaseException as failure:  # noqa: BLE001  # the job has to end, whatever __str__ raises
        return f"<__str__ raised {type_name(failure)}>"


def format_traceback(error: BaseException) -> str:
    """Format an exception with its traceback for the log: escaped, of limited length. Never raises."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001  # it reads many attributes, and each may be a property
        text = "".join(traceback.format_tb(_get_traceback(error))) + format_exception(error)
    if len(text) > _MAX_TRACEBACK:
        half = _MAX_TRACEBACK // 2
        text = f"{text[:half]}\n... [{len(text)} characters]\n{text[-half:]}"
    return "\n".join([printable(line, None, keep="\t") for line in text.rstrip("\n").split("\n")])


def log_exception(
    logger: logging.Logger,
    error: BaseException,
    message: str,
    *args: object,
    extra: Mapping[str, object] | None = None,
) -> None:
    """
    Log an exception with its traceback, at level ERROR.

    As ``logger.error(message, *args, exc_info=error, extra=extra)``, but the text of the traceback is that of
    :func:`format_traceback`.
    """
    if not logger.isEnabledFor(logging.ERROR):
        return
    code = log_exception.__code__
    exc_info = (type(error), error, _get_traceback(error))
    record = logger.makeRecord(
        logger.name, logging.ERROR, code.co_filename, code.co_firstlineno, message, args, exc_info, code.co_name, extra
    )
    record.exc_text = format_traceback(error)  # formatters use this text instead of formatting `exc_info`
    logger.handle(record)
