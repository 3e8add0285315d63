"""Functions that run in processes, which import them from this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator

from geartrain.errors import JobFailedError, JobTooLargeError
from geartrain.worker import WorkerJob


class UnpicklableError(Exception):
    """Loses its argument when it is pickled, so it cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def describe(job: WorkerJob) -> str:
    return f"{job.function} {job.unique} {job.handle} {job.server} {job.lost} {job.workload!r}"


def pid(job: WorkerJob) -> str:
    return str(os.getpid())


def updates(job: WorkerJob) -> str:
    job.send_data("a\0b")
    job.send_status(1, 2)
    thread = threading.Thread(target=job.send_warning, args=("from a thread",))
    thread.start()
    thread.join()
    return "end"


def chunks(job: WorkerJob) -> Generator[str, None, str]:
    yield "1"
    yield "2"
    return "end"


def endless(job: WorkerJob) -> Generator[bytes, None, None]:
    while True:
        yield b"x"


def misbehave(job: WorkerJob) -> object:
    match job.workload:
        case b"fail":
            raise JobFailedError("no")
        case b"raise":
            raise KeyError("x")
        case b"connection":
            raise ConnectionResetError("the function's own")
        case b"unpicklable":
            raise UnpicklableError("this", "that")
        case b"type":
            return 5
        case b"sys.exit":
            raise SystemExit(3)
        case b"exit":
            os._exit(3)
        case b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"nameless signal":
            os.kill(os.getpid(), signal.SIGRTMIN + 3)
        case b"sleep":
            job.send_data(str(os.getpid()))
            time.sleep(60)
    return "well"


def too_large_updates(job: WorkerJob) -> str:
    """Try to send as many bytes as the workload says; return the sends that raised, and the process ID."""
    raised = []
    for name in ("send_data", "send_warning"):
        try:
            getattr(job, name)(bytes(int(job.workload)))
        except JobTooLargeError as error:
            raised.append(f"{name}: {error}")
    return "\n".join([*raised, str(os.getpid())])


def large(job: WorkerJob) -> bytes | None:
    """Send as many bytes as the workload says, as the result or as an update."""
    what, size = job.workload.split()
    data = bytes(int(size))
    match what:
        case b"result":
            return data
        case b"data":
            job.send_data(data)
        case b"warning":
            job.send_warning(data)
    return b"not reached"


def sleep(job: WorkerJob) -> None:
    time.sleep(60)


def large_or_pid(job: WorkerJob) -> bytes | str | None:
    """Call :func:`large`, or return the process ID."""
    return str(os.getpid()) if job.workload.startswith(b"pid") else large(job)
