"""Functions that processes of the tests import."""

from __future__ import annotations

import ctypes
import os
import time

from geartrain.worker import WorkerJob


def pid(job: WorkerJob) -> str:
    return str(os.getpid())


def hold_interpreter(job: WorkerJob) -> None:
    """Block without letting another thread of the process run, as a C extension may."""
    job.send_data(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def sleep(job: WorkerJob) -> None:
    job.send_data(str(os.getpid()))
    time.sleep(600)
