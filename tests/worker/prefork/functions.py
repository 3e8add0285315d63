"""Functions that processes of the tests import."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from contextlib import suppress

from geartrain.worker import WorkerJob


def pid(job: WorkerJob) -> str:
    return str(os.getpid())


def count_connections(job: WorkerJob) -> str:
    """Return the number of TCP connections of this process."""
    count = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            count += copy.family == socket.AF_INET
    return str(count)


def hold_interpreter(job: WorkerJob) -> None:
    """Block without letting another thread of the process run, as a C extension may."""
    job.send_data(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def sleep(job: WorkerJob) -> None:
    job.send_data(str(os.getpid()))
    time.sleep(600)
