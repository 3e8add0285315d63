"""Test worker for the command line. ``python -m tests.cli.some_worker SERVER`` runs it until it is killed."""

from __future__ import annotations

import asyncio
import sys

from geartrain.errors import JobFailedError
from geartrain.worker import Worker, WorkerJob


def make_worker(job_servers: list[str]) -> Worker:
    worker = Worker(job_servers, concurrency=10)
    second_started: asyncio.Future[None] | None = None

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    @worker.function("fail_odd")
    async def fail_odd(job: WorkerJob) -> bytes:
        if int(job.workload) % 2:
            raise JobFailedError("odd")
        return job.workload

    @worker.function("fail_late")
    async def fail_late(job: WorkerJob) -> None:
        job.send_data(b"part")
        raise JobFailedError("no more")

    @worker.function("raise")
    async def fail(job: WorkerJob) -> None:
        raise ValueError("no such wall")

    @worker.function("stream")
    async def stream(job: WorkerJob) -> bytes:
        job.send_warning(b"careful")
        job.send_data(b"one ")
        job.send_data(b"two ")
        return b"three"

    @worker.function("second_first")
    async def second_first(job: WorkerJob) -> bytes:
        """Make the first of two jobs end after the second."""
        nonlocal second_started
        if job.workload == b"first":
            job.send_data(b"the ")
            second_started = second_started or asyncio.get_running_loop().create_future()
            await second_started
            second_started = None
        else:
            second_started = second_started or asyncio.get_running_loop().create_future()
            second_started.set_result(None)
        return job.workload

    @worker.function("half")
    async def half(job: WorkerJob) -> bytes:
        """Report progress, and end after a job of ``seen``."""
        job.send_status(1, 2)
        await seen.wait()
        seen.clear()
        return b"whole"

    seen = asyncio.Event()

    @worker.function("seen")
    async def mark_seen(job: WorkerJob) -> None:
        seen.set()

    @worker.function("describe")
    async def describe(job: WorkerJob) -> str:
        return f"{job.unique}|{job.workload!r}"

    return worker


if __name__ == "__main__":
    asyncio.run(make_worker(sys.argv[1:]).run())
