"""What runs in a process of its own: one function, one job at a time, spoken to over a pipe."""

from __future__ import annotations

import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from geartrain.protocol.packets import PacketType
from geartrain.protocol.worker import Assignment
from geartrain.worker.function import Function, run_blocking
from geartrain.worker.job import WorkerJob, encode_result

__all__ = ["AskLost", "Completed", "Order", "Raised", "Update", "serve"]


class Order(NamedTuple):
    """To the child: run this job."""

    assignment: Assignment
    server: str


class Update(NamedTuple):
    """From the child: send this about the job."""

    kind: PacketType
    data: bytes


class AskLost(NamedTuple):
    """From the child: is the job lost? It is answered by a ``bool``."""


class Completed(NamedTuple):
    """From the child: the job has this result."""

    data: bytes


class Raised(NamedTuple):
    """From the child: the function raised. ``error`` is ``None`` where it cannot be pickled."""

    error: Exception | None
    type_name: str
    text: str
    trace: str


class PipeChannel:
    """What a job is sent through: the worker's process does it."""

    def __init__(self, pipe: Connection, server: str) -> None:
        self.server = server
        self._pipe = pipe
        self._lock = threading.Lock()  # a function may have threads of its own

    @property
    def lost(self) -> bool:
        """Whether the job server has given the job away."""
        with self._lock, _ending_with_the_worker():
            self._pipe.send(AskLost())
            return bool(self._pipe.recv())

    def send_update(self, _: Assignment, kind: PacketType, data: bytes) -> None:
        """Have something sent about the job."""
        with self._lock, _ending_with_the_worker():
            self._pipe.send(Update(kind, data))

    async def drain(self) -> None:
        """Return at once: the pipe holds back whoever sends too much."""


@contextmanager
def _ending_with_the_worker() -> Iterator[None]:
    """End this process if the pipe is closed. Another error would look to the function as if it were about its own."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise SystemExit(0) from error


def serve(pipe: Connection, function: Function) -> None:
    """Run the jobs that come through the pipe, until it is closed."""
    # Ctrl-C in a terminal reaches all processes; the worker decides what becomes of the job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _ending_with_the_worker():
        while True:
            order: Order = pipe.recv()
            job = WorkerJob(PipeChannel(pipe, order.server), order.assignment, function.name)
            pipe.send(_run(function, job))


def _run(function: Function, job: WorkerJob) -> Completed | Raised:
    try:
        return Completed(encode_result(function.name, run_blocking(function, job)))
    except Exception as error:  # noqa: BLE001  # it is raised again in the worker
        name, text, trace = type(error).__name__, str(error), "".join(traceback.format_exception(error))
        return Raised(error if _survives_pickling(error) else None, name, text, trace)
    finally:
        job._ended = True


def _survives_pickling(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # it is our own
    except Exception:  # noqa: BLE001  # whatever the user's class does when it is pickled
        return False
    return True
