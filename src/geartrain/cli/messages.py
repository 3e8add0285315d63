"""Small words for people."""

from __future__ import annotations

import os
import ssl

from geartrain.errors import NoServersError
from geartrain.signals import name_signal

__all__ = ["describe_error", "describe_exit", "describe_server_error", "error_reason", "first_error", "pluralize"]


def pluralize(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def describe_exit(status: int) -> str:
    """Say how a process ended, whose status, as Python has it, is negative for a signal."""
    return name_signal(-status) if status < 0 else f"exit status {status}"


def describe_error(error: BaseException) -> str:
    """Say in one sentence what went wrong, without what only a programmer wants to know."""
    if isinstance(error, NoServersError) and error.errors:
        return "no job server could be reached: " + ", ".join(
            f"{server} ({error_reason(cause)})" for server, cause in error.errors.items()
        )
    return str(error)


def describe_server_error(server: str, error: BaseException) -> str:
    """Say in one sentence what went wrong with one of several job servers."""
    if isinstance(error, NoServersError):
        return f"{server} could not be reached: {error_reason(error)}"
    return describe_error(error)


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first of the errors that ended a task group: the others are its consequences."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first


def error_reason(error: BaseException) -> str:
    """Return the operating system's own words, from as far down as there are any."""
    while (cause := _get_cause(error)) is not None:
        error = cause
    if isinstance(error, ssl.SSLError):
        return str(error)  # its number is OpenSSL's, not the system's
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text has the address in it once more
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _get_cause(error: BaseException) -> BaseException | None:
    if isinstance(error, NoServersError) and len(error.errors) == 1:
        return next(iter(error.errors.values()))
    return error.__cause__
