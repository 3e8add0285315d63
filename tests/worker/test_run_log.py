"""What a worker logs about its run, and the structured fields of its log records."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
from typing import Any

import pytest

from geartrain import Client, JobExceptionError, JobFailedError, JobServer, Worker, WorkerJob, __version__, blocking
from geartrain.log_format import JsonFormatter
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.worker import process_functions


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "geartrain.worker"]


async def wait(job: WorkerJob) -> None:
    pass


def test_a_worker_describes_itself() -> None:
    worker, process = Worker(["a", "b:1"], concurrency=3), f"{socket.gethostname()}:{os.getpid()}"
    worker.function("wait", timeout=2.5)(wait)
    worker.function("plain", can_do_timeout=60)(lambda job: b"")
    worker.function("\x1b[2J", processes=1)(process_functions.pid)
    worker.function("many", processes=3)(process_functions.pid)
    assert worker.describe().splitlines() == [
        f"geartrain {__version__}: worker {process}, 3 jobs at a time, job servers a:4730, b:1",
        "function wait: coroutine, timeout 2.5 s",
        "function plain: in a thread, CAN_DO_TIMEOUT 60 s",
        r"function \x1b[2J: in a process",
        "function many: in 3 processes",
    ]
    assert "worker me, 1 job at a time, job servers" in blocking.Worker(client_id="me").describe()


async def test_each_step_of_a_run_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.worker")
    may_end = asyncio.Event()
    async with JobServer(port=0) as server, Client(server.address) as client:
        worker = Worker(server.address, client_id="me", grace=60)

        @worker.function
        async def wait(job: WorkerJob) -> None:
            await may_end.wait()

        async with worker:
            job = client.submit("wait")
            await eventually(lambda: worker.statistics().running)
            worker.stop()
            worker.stop()
            await eventually(lambda: worker.state == "stopping")
            may_end.set()
            await job
        assert [re.sub(r"after \d+\.\d s", "after N s", line) for line in lines(caplog)] == [
            *worker.describe().splitlines(),
            f"connected to {server.address}",
            "stopping: waiting for 1 job, up to 60 s",
            f"closed the connection to {server.address}",
            "stopped after N s; jobs: 1 completed, 0 failed, 0 raised an exception, 0 returned or lost",
        ]


async def test_a_run_counts_only_its_own_jobs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.worker")
    async with JobServer(port=0) as server, Client(server.address) as client:
        worker = Worker(server.address)
        worker.function("f")(lambda job: b"")
        for _ in range(2):
            caplog.clear()
            async with worker:
                await client.do("f")
            assert "jobs: 1 completed" in lines(caplog)[-1]


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("kind", ["coroutine", "thread", "process"])
async def test_a_record_about_a_job_has_structured_fields(
    gearmand: Gearmand, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def coroutine(job: WorkerJob) -> Any:
        return process_functions.misbehave(job)

    worker = Worker(gearmand.address)
    if kind == "coroutine":
        worker.function("f")(coroutine)
    else:
        call: Any = process_functions.misbehave
        worker.function("f", processes=1 if kind == "process" else None)(call)
    async with Client(gearmand.address) as client, worker:
        for workload, error in (("fail", JobFailedError), ("raise", JobExceptionError)):
            job = client.submit("f", workload)
            with pytest.raises(error):
                await job
            await eventually(lambda: caplog.records)
            record = json.loads(JsonFormatter().format(caplog.records[-1]))
            assert job.handle is not None
            assert (record["function"], record["handle"]) == ("f", job.handle.handle)
            assert (record["server"], record["logger"]) == (gearmand.address, "geartrain.worker")
            assert 0 <= record["seconds"] < 60
            assert ("KeyError" in record.get("exception", "")) == (workload == "raise")
            caplog.clear()


async def test_a_record_about_a_job_server_has_its_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain")
    async with JobServer(port=0) as server, Client(server.address) as client:
        worker = Worker(server.address)
        worker.function("f")(lambda job: b"")
        async with worker:
            await client.do("f")
    records = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    connected = [record["logger"] for record in records if record.get("server") == server.address]
    assert connected.count("geartrain.worker") == 2
    assert connected.count("geartrain.client") == 1
