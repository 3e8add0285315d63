"""Transfers an exception from a process to the worker, whatever its own methods do."""

from __future__ import annotations

import contextlib
import pickle

from geartrain.errors import JobFailedError
from geartrain.worker.exceptions import format_exception, format_message, format_traceback, type_name
from geartrain.worker.processes.messages import Raised

__all__ = ["describe_exception", "rebuild_exception"]


def describe_exception(error: BaseException) -> Raised:
    """Describe an exception that a function raised. Never raises."""
    return Raised(
        _pickle(error),
        type_name(error),
        format_message(error),
        issubclass(type(error), JobFailedError),
        format_traceback(error),
    )


def rebuild_exception(raised: Raised) -> BaseException:
    """Return the exception, or a stand-in of the same name and message; a note has the traceback. Never raises."""
    error = _unpickle(raised.pickled) if raised.pickled is not None else None
    if error is None:
        base = JobFailedError if raised.is_failure else Exception
        error = type(raised.type_name, (base,), {})(raised.message)
    with contextlib.suppress(BaseException):  # a class may define __notes__ itself
        error.add_note(f"It was raised in a process of the worker:\n\n{raised.trace}")
    return error


def _pickle(error: BaseException) -> bytes | None:
    """Pickle an exception if what is unpickled is of the same class and has the same message."""
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        copy = pickle.loads(pickled)  # noqa: S301  # pickled just above
    except BaseException:  # noqa: BLE001  # whatever the user's class does when it is pickled
        return None
    return pickled if type(copy) is type(error) and format_exception(copy) == format_exception(error) else None


def _unpickle(pickled: bytes) -> BaseException | None:
    try:
        error = pickle.loads(pickled)  # noqa: S301  # from a process of our own
    except BaseException:  # noqa: BLE001  # as above; here its module may be another one
        return None
    return error if issubclass(type(error), BaseException) else None
