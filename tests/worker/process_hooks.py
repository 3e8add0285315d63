"""Hooks and functions that processes of the tests import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from geartrain.worker import WorkerJob

DIRECTORY = "GEARTRAIN_TEST_HOOKS"  # the environment variable with the directory for notes

calls: list[str] = []

ANSWERS: dict[bytes, Any] = {
    b"bytes": b"abc",
    b"text": "abc",
    b"nothing": None,
    b"bytearray": bytearray(b"abc"),
    b"number": 3,
    b"structure": {"a": [1, 2.5]},
}


def start() -> None:
    """Note the call; fail if there is a file that says so."""
    if Path(os.environ[DIRECTORY], "fail").exists():
        raise KeyError("no database")
    calls.append("start")


def stop() -> None:
    Path(os.environ[DIRECTORY], f"stopped {os.getpid()}").touch()


def count_starts(job: WorkerJob) -> str:
    return f"{os.getpid()} {len(calls)}"


def hang(job: WorkerJob) -> None:
    job.send_data(str(os.getpid()))
    time.sleep(600)


def answer(job: WorkerJob) -> Any:
    """Return what the workload names, or raise."""
    if job.workload == b"raise":
        raise LookupError("no such thing")
    return ANSWERS[job.workload]
