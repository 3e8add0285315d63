"""A client and a worker of ``geartrain.blocking`` for each test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from geartrain import WorkerJob
from geartrain.blocking import Client, Worker
from tests.support.eventually import wait_until
from tests.support.job_server import AnyJobServer


def thread_count() -> int:
    """Return the number of threads of this process, those that ``threading`` does not know included."""
    return len(os.listdir("/proc/self/task"))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = thread_count()
    yield
    gc.collect()
    wait_until(lambda: thread_count() <= before)


@pytest.fixture
def client(job_server: AnyJobServer) -> Iterator[Client]:
    """A client of the job server."""
    with Client(job_server.address) as client:
        yield client


@pytest.fixture
def worker(job_server: AnyJobServer) -> Iterator[Worker]:
    """A worker in the background, with functions that the tests share."""
    worker = Worker(job_server.address, concurrency=20)

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    @worker.function("fail")
    async def fail(job: WorkerJob) -> bytes:
        raise ValueError(job.workload.decode())

    @worker.function("stream")
    async def stream(job: WorkerJob) -> bytes:
        for number in range(int(job.workload)):
            job.send_data(b"%d" % number)
        job.send_warning(b"soon")
        job.send_status(1, 2)
        return b"end"

    with worker:
        yield worker
