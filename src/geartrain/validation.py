"""Validation of arguments; each error message contains the value."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Final

__all__ = [
    "MAX_FUNCTION",
    "MAX_WORKLOAD",
    "check_count",
    "check_flag",
    "check_logger",
    "check_seconds",
    "check_timeout",
    "encode_name",
    "shorten",
    "warn_caller",
]

MAX_FUNCTION: Final = 512  # bytes; libgearman's limit, the smallest of those in use
MAX_WORKLOAD: Final = 2**32 - 8192  # bytes; with the other arguments no more than a packet's header can hold


def shorten(value: object) -> str:
    """Return the ``repr`` of a value for a message, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def encode_name(what: str, name: str | bytes) -> bytes:
    """
    Encode a name that goes on the wire.

    Raises:
        TypeError: If it is neither ``str`` nor ``bytes``.
        ValueError: If it contains a NUL, which separates arguments, or cannot be encoded as UTF-8.
    """
    if isinstance(name, bytes):
        encoded = name
    elif isinstance(name, str):
        try:
            encoded = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} must be text that UTF-8 can encode, got {name!r}") from error
    else:
        raise TypeError(f"{what} must be str or bytes, got {name!r}")
    if b"\0" in encoded:
        raise ValueError(f"{what} must not contain a NUL, got {name!r}")
    return encoded


def check_seconds(name: str, value: object) -> float:
    """
    Return a number of seconds above zero.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not above zero, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be a number of seconds above 0, got {value!r}")
    return float(value)


def check_timeout(name: str, value: object) -> float | None:
    """Do the same as :func:`check_seconds`, but also accept ``None``, for no limit."""
    return None if value is None else check_seconds(name, value)


def check_count(name: str, value: object, least: int, most: int | None = None) -> int:
    """
    Return a whole number from ``least`` to ``most``, or without an upper limit.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if most is not None and not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return value


def check_flag(name: str, value: object) -> bool:
    """
    Return ``True`` or ``False``.

    Raises:
        TypeError: If it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_logger(logger: logging.Logger | None, default: str) -> logging.Logger:
    """
    Return a logger, or the logger named ``default`` for ``None``.

    Raises:
        TypeError: If it is not a logger.
    """
    if logger is None:
        return logging.getLogger(default)
    if not isinstance(logger, logging.Logger | logging.LoggerAdapter):
        raise TypeError(f"logger must be a logging.Logger, got {logger!r}")
    return logger


def warn_caller(message: str) -> None:
    """Emit a ``RuntimeWarning`` for the line of the program that called geartrain."""
    import inspect  # slow to import, and rarely needed

    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("geartrain."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
