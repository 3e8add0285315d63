"""A worker for `geartrain worker app:worker`, which the files in this folder run in production."""

import hashlib

from geartrain import Worker, WorkerJob

worker = Worker(concurrency=10, grace=60)  # the job servers are in the environment variable GEARMAN_SERVERS


@worker.function
async def reverse(job: WorkerJob) -> bytes:
    return job.workload[::-1]


@worker.function
def sha256(job: WorkerJob) -> str:
    """Hash a file. A plain function runs in a thread, so it may block."""
    with open(job.workload, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
