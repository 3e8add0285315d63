"""Our worker for the clients of others. Arguments: ADDRESS and the names of three functions, UPPER PROGRESS PARTS."""

from __future__ import annotations

import asyncio
import sys

from geartrain import JobFailedError, Worker, WorkerJob


def make_worker(address: str, upper_name: str, progress_name: str, parts_name: str) -> Worker:
    worker = Worker(address)

    @worker.function(upper_name)
    async def upper(job: WorkerJob) -> bytes:
        if job.workload.startswith(b"fail"):
            raise JobFailedError("requested by the workload")
        return job.workload.upper()

    @worker.function(progress_name)
    async def progress(job: WorkerJob) -> str:
        job.send_status(1, 2)
        return "done"

    @worker.function(parts_name)
    async def parts(job: WorkerJob) -> str:
        job.send_data("one ")
        return "two"

    return worker


if __name__ == "__main__":
    asyncio.run(make_worker(*sys.argv[1:]).run())
