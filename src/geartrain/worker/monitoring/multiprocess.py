"""
The multiprocess mode of prometheus-client, in which all processes keep their values in files of one directory.

prometheus-client decides when it is imported, by an environment variable. Without it, what other processes count would
be lost without a message.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from geartrain.errors import LocalProtocolError

__all__ = ["DIRECTORY", "has_prometheus", "is_multiprocess", "multiprocess_mode"]

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus-client


def has_prometheus() -> bool:
    """Return whether prometheus-client is installed. Does not import it."""
    try:
        return find_spec("prometheus_client") is not None
    except ValueError:  # it is hidden, as tests do
        return False


def is_multiprocess() -> bool:
    """Return whether prometheus-client, which is imported here if it was not, is in its multiprocess mode."""
    from prometheus_client import values

    return values.ValueClass is not values.MutexValue


@contextmanager
def multiprocess_mode() -> Iterator[None]:
    """
    Have this process, and those that it starts until the end of the block, count in files of one directory.

    A directory that the user has chosen is left as it is; otherwise a temporary one is used.

    Raises:
        LocalProtocolError: If prometheus-client has been imported without the mode.
    """
    if DIRECTORY in os.environ:
        _check()
        yield
        return
    if "prometheus_client" in sys.modules:
        _check()
    with tempfile.TemporaryDirectory(prefix="geartrain-metrics-", ignore_cleanup_errors=True) as directory:
        os.environ[DIRECTORY] = directory
        try:
            _check()
            yield
        finally:
            del os.environ[DIRECTORY]


def _check() -> None:
    if not is_multiprocess():
        raise LocalProtocolError(
            f"metrics of several processes need prometheus-client's multiprocess mode, but it was imported before: set "
            f"{DIRECTORY} to an empty directory in the environment of the program"
        )
