"""A worker for `geartrain worker app:worker`; geartrain-worker.service runs it in four processes."""

import hashlib
import os

from geartrain import Worker, WorkerJob

worker = Worker(os.environ.get("GEARMAN_SERVERS", "127.0.0.1:4730").split(","), concurrency=10, grace=60)


@worker.function("reverse")
async def reverse(job: WorkerJob) -> bytes:
    return job.workload[::-1]


@worker.function("sha256")
def sha256(job: WorkerJob) -> str:
    """Hash a file. A plain function runs in a thread, so it may block."""
    with open(job.workload, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
