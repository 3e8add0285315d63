from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
from typing import Any

import pytest

from geartrain import Admin
from geartrain.worker import Worker, WorkerJob
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.working import working
from tests.worker.prefork import functions
from tests.worker.test_executors import pass_through
from tests.worker.test_processes import is_alive

pytestmark = [pytest.mark.traced_processes, pytest.mark.loops("asyncio")]


async def count_workers(gearmand: Gearmand, function: str = "f") -> int:
    async with Admin(gearmand.address) as admin:
        return sum(status.workers for status in await admin.status() if status.function == function)


async def wait_for_workers(gearmand: Gearmand, number: int, function: str = "f") -> None:
    async with asyncio.timeout(10):
        while await count_workers(gearmand, function) != number:
            pass


@pytest.mark.filterwarnings("ignore:'f' has processes=2")
@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, 2),
        ({"middleware": [pass_through]}, 1),
        ({"max_jobs": 100}, 1),
        ({"concurrency": 1}, 1),
        ({"format_exception": lambda error: "no module has it by name"}, 1),
    ],
    ids=["plain", "middleware", "max_jobs", "concurrency", "format_exception"],
)
async def test_each_process_is_a_worker_of_its_own_if_it_can_be(
    gearmand: Gearmand, options: dict[str, Any], workers: int
) -> None:
    worker = Worker(gearmand.address, **options)
    worker.function("f", processes=2)(functions.pid)
    async with working(worker), connected(gearmand.address) as client:
        await wait_for_workers(gearmand, workers)
        assert (await client.do("f"))[1] != str(os.getpid()).encode()


async def test_each_process_has_its_own_client_id(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    worker.function("f", processes=1)(functions.pid)
    async with working(worker), connected(gearmand.address) as client, Admin(gearmand.address) as admin:
        process = (await client.do("f"))[1].decode()
        assert f"{socket.gethostname()}:{process}" in [each.client_id for each in await admin.workers()]


def test_a_worker_with_tls_has_its_connections_itself() -> None:
    from geartrain.worker.prefork.eligibility import can_prefork

    worker = Worker("gearmans://127.0.0.1", concurrency=1)
    worker.function("f", processes=1)(functions.pid)
    assert not can_prefork(worker._servers, worker._config, worker._functions)
    worker = Worker("127.0.0.1", tls=ssl.create_default_context())
    worker.function("f", processes=1)(functions.pid)
    assert not can_prefork(worker._servers, worker._config, worker._functions)


async def test_a_function_that_is_added_gets_processes_of_its_own(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, concurrency=2)
    worker.function("f", processes=1)(functions.pid)
    async with working(worker), connected(gearmand.address) as client:
        first = await client.do("f")
        worker.function("g", processes=1)(functions.pid)
        second = await client.do("g")
        assert second[0] == "WORK_COMPLETE"
        assert second != first
        assert await client.do("f") == first


async def test_a_function_that_cannot_have_such_processes_can_be_added(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, concurrency=2)
    worker.function("f", processes=1)(functions.pid)

    def own_pid(job: WorkerJob) -> str:
        return str(os.getpid())

    async with working(worker), connected(gearmand.address) as client:
        assert (await client.do("f"))[0] == "WORK_COMPLETE"
        worker.function("g")(own_pid)
        assert await client.do("g") == ("WORK_COMPLETE", str(os.getpid()).encode())
        kind, pid = await client.do("f")
        assert kind == "WORK_COMPLETE"
        assert int(pid) != os.getpid()
        assert worker.state == "running"
        assert worker.statistics().completed == 3


async def test_a_job_that_lets_no_other_thread_run_ends_after_its_timeout(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    worker.function("f", processes=1, timeout=0.5)(functions.hold_interpreter)
    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        (_, pid), end = await client.updates()
        assert end == ("WORK_EXCEPTION", b"TimeoutError: 'f' took longer than 0.5 s")
        await eventually(lambda: not is_alive(int(pid)))
    assert worker.statistics().raised == worker.statistics().taken == 1


async def test_a_worker_is_ready_when_a_process_has_a_reply(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, concurrency=2)
    worker.function("f", processes=2)(functions.pid)
    async with working(worker):
        assert not worker.ready()
        await eventually(worker.ready)
        assert worker.statistics().connected == 1
        worker.stop()
        await eventually(lambda: not worker.ready())


async def test_a_worker_reconnects_to_a_job_server_that_was_restarted(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    worker.function("f", processes=1)(functions.pid)
    async with working(worker):
        await eventually(worker.ready)
        gearmand.restart()
        async with connected(gearmand.address) as client:
            assert (await client.do("f"))[0] == "WORK_COMPLETE"


async def test_a_process_ends_with_its_worker(gearmand: Gearmand) -> None:
    """Nothing is left to report its death, so the job server must give its job to another worker."""
    worker = Worker(gearmand.address)
    worker.function("f", processes=1)(functions.sleep)
    async with connected(gearmand.address) as client:
        run = asyncio.create_task(worker.run())
        await client.submit("f")
        pid = int((await client.receive())[1].partition(b"\0")[2])
        run.cancel()
        await asyncio.wait([run])
        await eventually(lambda: not is_alive(pid))
        await wait_for_workers(gearmand, 0)
        async with Admin(gearmand.address) as admin:
            (status,) = await admin.status()
        assert (status.total, status.running) == (1, 0)
    assert worker.statistics().lost == 1


async def test_a_process_is_replaced_when_it_dies_without_a_job(
    gearmand: Gearmand, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gearmand.address)
    worker.function("f", processes=1)(functions.pid)
    async with working(worker), connected(gearmand.address) as client:
        _, first = await client.do("f")
        os.kill(int(first), signal.SIGKILL)
        kind, second = await client.do("f")
        assert kind == "WORK_COMPLETE"
        assert second != first
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
