"""A gearmand and a worker for each program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from geartrain import WorkerJob
from geartrain.blocking import Worker
from tests.support.gearmand import Gearmand


@pytest.fixture
def gearmand(tmp_path: Path) -> Iterator[Gearmand]:
    """A gearmand on a free port, with a worker for ``reverse``."""
    with Gearmand(tmp_path) as server:
        worker = Worker(server.address, concurrency=20)

        @worker.function("reverse")
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        with worker:
            yield server
