"""Wording of counts, errors and exit statuses."""

from __future__ import annotations

import os
import ssl

from geartrain.errors import NoServersError
from geartrain.signals import name_signal

__all__ = ["describe_error", "describe_exit", "describe_server_error", "error_reason", "first_error", "pluralize"]


def pluralize(count: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun, such as ``1 job`` or ``2 jobs``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def describe_exit(status: int) -> str:
    """Describe a process exit status, which is negative for a signal, as in :mod:`subprocess`."""
    return name_signal(-status) if status < 0 else f"exit status {status}"


def describe_error(error: BaseException) -> str:
    """Describe an error in one sentence, without details that only concern programmers."""
    if isinstance(error, NoServersError) and error.errors:
        return "no job server could be reached: " + ", ".join(
            f"{server} ({error_reason(cause)})" for server, cause in error.errors.items()
        )
    return str(error)


def describe_server_error(server: str, error: BaseException) -> str:
    """Describe an error of one of several job servers in one sentence."""
    if isinstance(error, NoServersError):
        return f"{server} could not be reached: {error_reason(error)}"
    return describe_error(error)


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a task group; the others are its consequences."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first


def error_reason(error: BaseException) -> str:
    """Return the reason for an error: that of its innermost cause, as the operating system describes it if possible."""
    while (cause := _get_cause(error)) is not None:
        error = cause
    if isinstance(error, UnicodeError):  # raised when a host name cannot be encoded for DNS
        return "invalid host name"
    if isinstance(error, ssl.SSLError):
        return str(error)  # its errno is OpenSSL's, not the operating system's
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's message would repeat the address
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _get_cause(error: BaseException) -> BaseException | None:
    if isinstance(error, NoServersError) and len(error.errors) == 1:
        return next(iter(error.errors.values()))
    return error.__cause__
