"""Both flavours of python-gearman's interface, and a worker for its client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from geartrain import JobExceptionError, JobFailedError, WorkerJob
from geartrain.blocking import Worker
from geartrain.compat import gearman, python3_gearman
from tests.support.job_server import AnyJobServer

Text = Callable[[str], Any]


@pytest.fixture(params=[gearman, python3_gearman], ids=["bytes", "text"])
def flavour(request: pytest.FixtureRequest) -> Any:
    """The package under test."""
    return request.param


@pytest.fixture
def native(flavour: ModuleType) -> Text:
    """Returns text as this flavour's users write it: as bytes or text."""
    return str.encode if flavour is gearman else str


@pytest.fixture
def client(flavour: Any, job_server: AnyJobServer) -> Iterator[Any]:
    """A client of the job server."""
    client = flavour.GearmanClient([job_server.address])
    yield client
    client.shutdown()


@pytest.fixture
def worker(job_server: AnyJobServer) -> Iterator[Worker]:
    """A worker of geartrain in the background."""
    worker = Worker(job_server.address, concurrency=5, format_exception=lambda error: str(error))

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    @worker.function("fail")
    async def fail(job: WorkerJob) -> bytes:
        raise JobFailedError

    @worker.function("raise")
    async def raise_error(job: WorkerJob) -> bytes:
        raise JobExceptionError("no such image")

    @worker.function("stream")
    async def stream(job: WorkerJob) -> bytes:
        job.send_data("part 1")
        job.send_data("part 2")
        job.send_warning("soon")
        job.send_status(3, 4)
        return b"end"

    with worker:
        yield worker


class JSONEncoder:
    """What most programs use."""

    @classmethod
    def encode(cls, encodable_object: Any) -> str:
        return json.dumps(encodable_object)

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        return json.loads(decodable_string)
