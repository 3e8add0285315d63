"""
A worker process of a run; its arguments are EXECUTOR LEDGER ADDRESS...

It writes a line to its ledger when it starts a job, and another, with the outcome, before it ends the job. It exits
when its standard input is closed, and so together with the process that started it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from geartrain import JobFailedError, Worker, WorkerJob
from tests.faults.jobs import PIECES, expected_result, name_of

# Executor -> concurrency and processes.
EXECUTORS: Final[dict[str, tuple[int, int | None]]] = {
    "coroutines": (20, None),
    "thread": (1, None),
    "threads": (10, None),
    "processes": (2, 2),  # fewer jobs than processes: the worker has the connections
    "processes with connections": (6, 1),
}
HEARTBEAT = 1.0  # seconds
READY = b"ready\n"  # written to standard output when it handles signals
SLOW = 0.1  # seconds that a slow job takes
LEDGER: Final = "GEARTRAIN_TEST_LEDGER"  # the environment variable with the path of the ledger, for the processes


@functools.cache
def open_ledger() -> int:
    return os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, job: WorkerJob) -> None:
    os.write(open_ledger(), f"{what} {name_of(job.workload)}\n".encode())


def answer(job: WorkerJob) -> bytes:
    note("began", job)
    note("completed", job)
    return expected_result(job.workload)


def slow(job: WorkerJob) -> bytes:
    note("began", job)
    time.sleep(SLOW)
    note("completed", job)
    return expected_result(job.workload)


def data(job: WorkerJob) -> Generator[bytes, None, None]:
    note("began", job)
    for number in range(PIECES):
        yield b"%d %s" % (number, job.workload)
    note("completed", job)


def fail(job: WorkerJob) -> None:
    note("began", job)
    note("failed", job)
    raise JobFailedError("as requested")


def raise_(job: WorkerJob) -> None:
    note("began", job)
    note("raised", job)
    raise ValueError(name_of(job.workload))


async def slow_in_loop(job: WorkerJob) -> bytes:
    note("began", job)
    await asyncio.sleep(SLOW)
    note("completed", job)
    return expected_result(job.workload)


async def data_in_loop(job: WorkerJob) -> AsyncGenerator[bytes, None]:
    for piece in data(job):
        yield piece


PLAIN: Final[dict[str, Callable[[WorkerJob], Any]]] = {
    "answer": answer,
    "slow": slow,
    "data": data,
    "fail": fail,
    "raise": raise_,
}


def as_named(job: WorkerJob) -> Any:
    """Run the function that the workload names."""
    return PLAIN[name_of(job.workload).partition("-")[0]](job)


async def as_named_in_loop(job: WorkerJob) -> Any:
    name = name_of(job.workload).partition("-")[0]
    return await slow_in_loop(job) if name == "slow" else PLAIN[name](job)


def in_loop(call: Callable[[WorkerJob], Any]) -> Callable[[WorkerJob], Any]:
    """Return a coroutine function that does what a quick plain function does."""

    async def run(job: WorkerJob) -> Any:
        return call(job)

    return run


IN_LOOP: Final = {
    **{name: in_loop(call) for name, call in PLAIN.items()},
    "slow": slow_in_loop,
    "data": data_in_loop,
    "as-named": as_named_in_loop,
}


def make_worker(executor: str, addresses: list[str]) -> Worker:
    concurrency, processes = EXECUTORS[executor]
    worker = Worker(addresses, concurrency=concurrency, heartbeat=HEARTBEAT, connect_timeout=1.0, grace=1.0)
    functions = IN_LOOP if executor == "coroutines" else {**PLAIN, "as-named": as_named}
    for name, call in functions.items():
        worker.function(name, processes=processes)(call)
    return worker


async def run(executor: str, addresses: list[str]) -> None:
    worker = make_worker(executor, addresses)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_reader(sys.stdin, worker.stop)
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    await worker.run()


def main(executor: str, ledger: str, *addresses: str) -> None:
    logging.getLogger("geartrain.worker").setLevel(logging.CRITICAL)  # functions raise on purpose
    os.environ[LEDGER] = ledger
    asyncio.run(run(executor, list(addresses)))


if __name__ == "__main__":
    from tests.faults.worker import main as imported_main  # processes import the functions by this module's name

    imported_main(*sys.argv[1:])
