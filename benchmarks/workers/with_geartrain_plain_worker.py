"""
Our worker with a plain function, or a coroutine function, which answers each job with its own workload.

usage: with_geartrain_plain_worker.py thread|process|coroutine NUMBER [--busy] PORT

NUMBER is the concurrency, and the number of processes. With --busy, a job takes a millisecond of CPU.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from geartrain import Worker, WorkerJob


def echo(job: WorkerJob) -> bytes:
    return job.workload


async def echo_in_loop(job: WorkerJob) -> bytes:
    return job.workload


def echo_busy(job: WorkerJob) -> bytes:
    until = time.thread_time() + 0.001
    while time.thread_time() < until:
        pass
    return job.workload


def main(kind: str, number: int, port: str, *, busy: bool) -> None:
    worker = Worker([f"127.0.0.1:{port}"], concurrency=number)
    function: Callable[[WorkerJob], Any] = echo_busy if busy else echo_in_loop if kind == "coroutine" else echo
    worker.function("echo", processes=number if kind == "process" else None)(function)
    asyncio.run(worker.run())


if __name__ == "__main__":
    kind, number, *rest = sys.argv[1:]
    main(kind, int(number), rest[-1], busy="--busy" in rest)
