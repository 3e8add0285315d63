"""Decides whether the functions of a worker run in processes with connections of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping

from geartrain.address import Address
from geartrain.worker.config import WorkerConfig
from geartrain.worker.function import Function
from geartrain.worker.prefork.settings import ProcessSettings

__all__ = ["can_prefork", "count_processes"]


def can_prefork(servers: Iterable[Address], config: WorkerConfig, functions: Mapping[bytes, Function]) -> bool:
    """
    Return whether each process can be a worker of its own.

    A context for TLS cannot be passed to another process, and middleware runs in the event loop of this one. Processes
    that know nothing of each other can observe neither ``max_jobs`` nor a ``concurrency`` below their number.
    """
    if os.name != "posix" or not hasattr(socket, "send_fds"):
        return False
    if config.tls is not None or any(server.tls for server in servers):
        return False
    if config.middleware or config.max_jobs is not None:
        return False
    processes = count_processes(functions.values())
    if processes is None or processes > config.job_limit:
        return False
    try:
        for function in functions.values():
            ProcessSettings.make((), config, function)
    except Exception:  # noqa: BLE001  # whatever the user's classes raise when they are pickled
        return False
    return True


def count_processes(functions: Iterable[Function]) -> int | None:
    """Return how many processes the functions have together, or ``None`` if one of them does not run in processes."""
    total = 0
    for function in functions:
        if function.processes is None:
            return None
        total += function.processes
    return total
