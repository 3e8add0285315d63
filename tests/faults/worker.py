"""
A worker process of a run; its arguments are LEDGER ADDRESS...

It writes a line to its ledger when it starts a job, and another, with the outcome, before it ends the job. It exits
when its standard input is closed, and so together with the process that started it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

from geartrain import JobFailedError, Worker, WorkerJob
from tests.faults.jobs import PIECES, answer_to, name_of

CONCURRENCY = 20
HEARTBEAT = 1.0  # seconds
READY = b"ready\n"  # written to standard output when it handles signals
SLOW = 0.1  # seconds that a slow job takes


def make_worker(ledger: int, addresses: list[str]) -> Worker:
    worker = Worker(addresses, concurrency=CONCURRENCY, heartbeat=HEARTBEAT, connect_timeout=1.0, grace=1.0)

    def note(what: str, workload: bytes) -> None:
        os.write(ledger, f"{what} {name_of(workload)}\n".encode())

    @worker.function("answer")
    async def answer(job: WorkerJob) -> bytes:
        note("began", job.workload)
        note("completed", job.workload)
        return answer_to(job.workload)

    @worker.function("slow")
    async def slow(job: WorkerJob) -> bytes:
        note("began", job.workload)
        await asyncio.sleep(SLOW)
        note("completed", job.workload)
        return answer_to(job.workload)

    @worker.function("data")
    async def data(job: WorkerJob) -> AsyncGenerator[bytes, None]:
        note("began", job.workload)
        for number in range(PIECES):
            yield b"%d %s" % (number, job.workload)
        note("completed", job.workload)

    @worker.function("fail")
    async def fail(job: WorkerJob) -> None:
        note("began", job.workload)
        note("failed", job.workload)
        raise JobFailedError("as requested")

    @worker.function("raise")
    async def raise_(job: WorkerJob) -> None:
        note("began", job.workload)
        note("raised", job.workload)
        raise ValueError(name_of(job.workload))

    by_name: dict[str, Callable[[WorkerJob], Awaitable[bytes | None]]] = {
        "answer": answer,
        "slow": slow,
        "fail": fail,
        "raise": raise_,
    }

    @worker.function("as-named")
    async def as_named(job: WorkerJob) -> bytes | None:
        return await by_name[name_of(job.workload).partition("-")[0]](job)

    return worker


async def run(ledger: int, addresses: list[str]) -> None:
    worker = make_worker(ledger, addresses)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_reader(sys.stdin, worker.stop)
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    await worker.run()


if __name__ == "__main__":
    logging.getLogger("geartrain.worker").setLevel(logging.CRITICAL)  # functions raise on purpose
    asyncio.run(run(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.argv[2:]))
