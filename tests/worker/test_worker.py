"""The worker against gearmand and against our job server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from geartrain.errors import JobFailedError, LocalProtocolError
from geartrain.protocol.packets import PacketType
from geartrain.worker import Worker, WorkerJob
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.inside import session_of_worker_job
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.wire import Wire
from tests.support.working import working


class Gate:
    """A function that runs until it is released, and counts its running calls."""

    def __init__(self) -> None:
        self.jobs: list[WorkerJob] = []
        self.running = 0
        self.most = 0
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self, job: WorkerJob) -> bytes:
        self.jobs.append(job)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._open.wait()
        finally:
            self.running -= 1
        return job.workload


def add_reverse(worker: Worker) -> None:
    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]


# Results.


async def test_a_function_returns_bytes_or_text(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    results: list[bytes | bytearray | memoryview | str] = [
        b"caf\xc3\xa9",
        "café",
        bytearray(b"caf\xc3\xa9"),
        memoryview(b"caf\xc3\xa9"),
    ]

    @worker.function("f")
    async def f(job: WorkerJob) -> bytes | bytearray | memoryview | str:
        return results[int(job.workload)]

    async with working(worker), connected(job_server.address) as client:
        for number in range(len(results)):
            assert await client.do("f", b"%d" % number) == ("WORK_COMPLETE", "café".encode())


async def test_none_is_an_empty_result(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        pass

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"")


async def test_a_job_has_its_attributes(job_server: AnyJobServer) -> None:
    worker, seen = Worker(job_server.address, prefix="app"), []

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        seen.append((job.function, job.workload, job.unique, job.handle, job.server, job.lost, repr(job)))

    async with working(worker), connected(job_server.address) as client:
        handle = (await client.submit("app\tf", b"a\0b", unique=b"key")).decode()
        await client.updates()
    name = f"<WorkerJob 'f' {handle} of {job_server.address}>"
    assert seen == [("f", b"a\0b", "key", handle, job_server.address, False, name)]


async def test_updates_arrive_in_the_order_in_which_they_were_sent(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> str:
        job.send_data("a\0b")
        job.send_status(1, 2)
        job.send_warning(b"")
        job.send_status(1.5, 2)
        await job.drain()
        return "end"

    async with working(worker), connected(job_server.address) as client:
        await client.submit("f")
        assert await client.updates() == [
            ("WORK_DATA", b"a\0b"),
            ("WORK_STATUS", b"1\x002"),
            ("WORK_WARNING", b""),
            ("WORK_STATUS", b"1.5\x002"),
            ("WORK_COMPLETE", b"end"),
        ]


async def test_a_large_result_arrives_whole(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    add_reverse(worker)
    workload = bytes(range(256)) * 4096 * 5
    async with working(worker), connected(job_server.address) as client:
        assert await client.do("reverse", workload) == ("WORK_COMPLETE", workload[::-1])


async def test_a_prefix_is_a_namespace(job_server: AnyJobServer) -> None:
    perl, c = Worker(job_server.address, prefix="app"), Worker(job_server.address, prefix="app:", prefix_separator="")
    add_reverse(perl)
    add_reverse(c)
    async with working(perl, c), connected(job_server.address) as client:
        assert await client.do("app\treverse", b"perl") == ("WORK_COMPLETE", b"lrep")
        assert await client.do("app:reverse", b"c+") == ("WORK_COMPLETE", b"+c")
    assert perl.functions == ("reverse",)


async def test_a_function_added_while_the_worker_sleeps_is_registered_immediately(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, regrab_interval=60)
    worker.function("other")(Gate())
    async with working(worker), connected(gearmand.address) as client:
        await client.submit("reverse", b"queued before")
        add_reverse(worker)
        assert await client.updates() == [("WORK_COMPLETE", b"erofeb deueuq")]


async def test_the_client_id_is_listed(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, client_id="w-17")
    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        await client.do("reverse")
        with Wire(gearmand.port) as admin:
            assert [line for line in admin.ask(b"workers") if b" w-17 : reverse" in line]


async def test_the_client_id_defaults_to_host_and_process(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        await client.do("reverse")
        with Wire(gearmand.port) as admin:
            expected = f" {socket.gethostname()}:{os.getpid()} : reverse".encode()
            assert [line for line in admin.ask(b"workers") if expected in line]


# Failures.


async def test_job_failed_error_is_work_fail_and_its_reason_is_sent_and_logged(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        raise JobFailedError("not today\n")

    async with working(worker), connected(job_server.address) as client:
        await client.submit("f")
        assert await client.updates() == [("WORK_WARNING", b"not today\n"), ("WORK_FAIL", b"")]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.getMessage().endswith(r"> failed: not today\n")


async def test_job_failed_error_without_a_reason_sends_and_logs_nothing_else(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        raise JobFailedError

    async with working(worker), connected(job_server.address) as client:
        await client.submit("f")
        assert await client.updates() == [("WORK_FAIL", b"")]
    assert not caplog.records


async def test_any_other_exception_is_work_exception_and_logged_once(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        raise KeyError("\ud800 no such")

    async with working(worker), connected(job_server.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"KeyError: '\\ud800 no such'")
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "geartrain.worker")
    assert record.exc_info
    assert "'f'" in record.getMessage()


async def test_a_result_of_another_type_is_an_exception_with_its_type(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> bytes:
        return 5  # type: ignore[return-value]

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == (
            "WORK_EXCEPTION",
            b"TypeError: the result of 'f' is bytes or text, got int",
        )


async def test_a_function_that_cancels_itself_ends_its_job_and_not_the_worker(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"CancelledError: ")
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")


UNSENDABLE: list[tuple[Callable[[Any], None], type[Exception], str]] = [
    (lambda job: job.send_status(1, 10**11), LocalProtocolError, "at most 11 characters"),
    (lambda job: job.send_status(float("nan"), 1), ValueError, "two finite numbers, got nan"),
    (lambda job: job.send_status("1", 2), TypeError, "two numbers, got '1'"),
    (lambda job: job.send_status(True, 2), TypeError, "two numbers, got True"),
    (lambda job: job.send_data(1), TypeError, "data is bytes or text, got int"),
    (lambda job: job.send_warning(None), TypeError, "a warning is bytes or text, got NoneType"),
]


async def test_sending_an_invalid_update_raises_in_the_function(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> str:
        for send, error, message in UNSENDABLE:
            with pytest.raises(error, match=message):
                send(job)
        return "still well"

    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        assert await client.updates() == [("WORK_COMPLETE", b"still well")]


async def test_a_job_that_has_ended_accepts_no_update_and_is_freed(gearmand: Gearmand) -> None:
    worker, gate = Worker(gearmand.address), Gate()
    gate.open()
    worker.function("f")(gate)
    async with working(worker), connected(gearmand.address) as client:
        await client.do("f")
        (job,) = gate.jobs
        for send in (job.send_data, job.send_warning):
            with pytest.raises(LocalProtocolError, match=r"the job H:\S+ of 'f' has ended"):
                send(b"late")
        with pytest.raises(LocalProtocolError, match="has ended"):
            job.send_status(1, 2)
        gone = weakref.ref(session_of_worker_job(job).protocol)
        gate.jobs.clear()
        del job, send
    gc.collect()
    assert gone() is None


# Many jobs.


async def test_concurrency_limits_the_number_of_running_jobs(job_server: AnyJobServer) -> None:
    worker, gate = Worker(job_server.address, concurrency=3), Gate()
    worker.function("f")(gate)
    async with working(worker), connected(job_server.address) as client:
        results = asyncio.create_task(client.do_many("f", [b"%d" % number for number in range(10)]))
        await eventually(lambda: gate.running == 3)
        gate.open()
        assert sorted(await results) == [b"%d" % number for number in range(10)]
    assert gate.most == 3


async def test_a_thousand_jobs_each_get_their_own_result(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address, concurrency=100)
    add_reverse(worker)
    async with working(worker), connected(job_server.address) as client:
        results = await client.do_many("reverse", [b"%04d" % number for number in range(1000)])
    assert sorted(result[::-1] for result in results) == [b"%04d" % number for number in range(1000)]


async def test_two_busy_job_servers_are_served_in_turn(start_job_server: JobServerStarter) -> None:
    """python-gearman#47: a worker with two job servers emptied one before it took jobs from the other."""
    servers = [start_job_server(), start_job_server()]
    worker, order = Worker([server.address for server in servers]), []

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        order.append(job.server)

    async with connected(servers[0].address) as one, connected(servers[1].address) as other:
        for client in (one, other):
            for _ in range(20):
                await client.submit("f", kind=PacketType.SUBMIT_JOB_BG)
        async with working(worker):
            await eventually(lambda: len(order) == 40)
    # The first connection may be ahead; from then on they alternate.
    last = [order.index(server.address) for server in servers]
    both = order[max(last) : max(last) + 30]
    assert abs(both.count(servers[0].address) - both.count(servers[1].address)) <= 2


async def test_a_job_that_has_become_due_is_taken_without_a_wake_up(job_server: AnyJobServer) -> None:
    """gearmand 1.1.20 sends no NOOP when an EPOCH job becomes due."""
    worker, done = Worker(job_server.address, regrab_interval=0.1), []

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        done.append(job.workload)

    async with working(worker), connected(job_server.address) as client:
        await client.submit_at("f", int(time.time()) + 1, b"due")
        await client.submit("f", b"now", kind=PacketType.SUBMIT_JOB_BG)
        await eventually(lambda: done)
        await eventually(lambda: len(done) == 2)
    assert done == [b"now", b"due"]


# Logs.


async def test_each_packet_is_logged_at_debug_with_workloads_elided(
    gearmand: Gearmand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "geartrain.worker")
    worker = Worker(gearmand.address)
    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        handle = (await client.submit("reverse", b"a secret", unique=b"u")).decode()
        await client.updates()
    lines = [record.getMessage() for record in caplog.records]
    assert f"{gearmand.address} > CAN_DO reverse" in lines
    assert f"{gearmand.address} < JOB_ASSIGN_UNIQ {handle} reverse u [8 bytes]" in lines
    assert f"{gearmand.address} > WORK_COMPLETE {handle} [8 bytes]" in lines
    assert not [line for line in lines if "secret" in line or "terces" in line]
