"""
The points of a job at which its process is killed, and the function that the processes run.

A workload is a number, the name of a point, and a directory. A process is killed once for each job: it leaves a mark
in the directory first. Importing this module in a process makes it vulnerable.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from geartrain import WorkerJob
from geartrain.connection import Connection
from geartrain.protocol.packets import HEADER, REQUEST, PacketType
from geartrain.worker.prefork.board import Board
from geartrain.worker.prefork.reporter import ProcessReporter

TIMEOUT: Final = 0.3  # seconds

POINTS: Final = (
    "none",
    "before the board",
    "after the board",
    "in the function",
    "before a send",
    "in a send",
    "after a send",
    "after the result",
    "before the board is cleared",
    "after the job",
    "before the timeout",
    "at the timeout",
    "after the timeout",
)
RESULT: Final = HEADER.pack(REQUEST, PacketType.WORK_COMPLETE, 0)[:8]
AROUND_TIMEOUT: Final = {"before the timeout": -0.003, "at the timeout": 0.0, "after the timeout": 0.003}

_current: list[bytes] = []  # the workload of the job that runs


def parse(workload: bytes) -> tuple[str, str, str]:
    number, point, directory = workload.decode().split("|")
    return number, point, directory


def die_at(*points: str) -> None:
    """Kill this process if the running job is to die at one of these points, and has not yet."""
    if not _current:
        return
    number, point, directory = parse(_current[0])
    if point in points:
        try:
            os.close(os.open(f"{directory}/{number}.killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def work(job: WorkerJob) -> bytes:
    number, point, directory = parse(job.workload)
    with open(f"{directory}/{number}.runs", "ab", buffering=0) as runs:
        runs.write(b".")
    die_at("in the function")
    job.send_status(1, 2)
    if point in AROUND_TIMEOUT:
        time.sleep(TIMEOUT + AROUND_TIMEOUT[point])
        die_at(point)
    return b"done " + number.encode()


def _make_vulnerable() -> None:
    started, ended = ProcessReporter.on_job_started, ProcessReporter.on_job_ended
    clear_job: Callable[[Board], None] = Board.clear_job
    write = os.write

    def on_job_started(self: ProcessReporter, running: Any, timeout: float | None) -> None:
        _current[:] = [running.assignment.workload]
        die_at("before the board")
        started(self, running, timeout)
        die_at("after the board")

    def on_job_ended(self: ProcessReporter, running: Any) -> None:
        ended(self, running)
        die_at("after the job")

    def clear(self: Board) -> None:
        die_at("before the board is cleared")
        clear_job(self)

    def write_and_die(descriptor: int, data: bytes) -> int:
        if not _current or b"H:" not in data:
            return write(descriptor, data)
        die_at("before a send")
        _, point, _ = parse(_current[0])
        if point == "in a send":
            half = write(descriptor, data[: len(data) // 2])
            die_at(point)
            return half
        sent = write(descriptor, data)
        die_at("after a send")
        if RESULT in data:
            die_at("after the result")
        return sent

    setattr(ProcessReporter, "on_job_started", on_job_started)  # noqa: B010  # a method cannot be assigned
    setattr(ProcessReporter, "on_job_ended", on_job_ended)  # noqa: B010
    setattr(Board, "clear_job", clear)  # noqa: B010
    module: Any = __import__(Connection.__module__, fromlist=["os"])
    module.os = _Os(write_and_die)


class _Os:
    """The module ``os`` with another ``write``."""

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


_make_vulnerable()
