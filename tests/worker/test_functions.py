"""The kinds of functions: in the loop and in threads, with one result and with many chunks."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Any

import pytest

from geartrain.errors import JobFailedError, LocalProtocolError
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.function import FunctionKind
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.inside import session_of_worker, session_of_worker_job
from tests.support.working import working


async def coroutine(job: WorkerJob) -> None: ...


async def async_generator(job: WorkerJob) -> AsyncGenerator[bytes, None]:
    yield b""


def generator(job: WorkerJob) -> Generator[bytes, None, None]:
    yield b""


def plain(job: WorkerJob) -> None: ...


class Callee:
    async def __call__(self, job: WorkerJob) -> None: ...


class Yielding:
    def __call__(self, job: WorkerJob) -> Generator[bytes, None, None]:
        yield b""

    async def method(self, job: WorkerJob) -> None: ...


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (coroutine, FunctionKind.COROUTINE),
        (partial(coroutine), FunctionKind.COROUTINE),
        (Callee(), FunctionKind.COROUTINE),
        (Yielding().method, FunctionKind.COROUTINE),
        (async_generator, FunctionKind.ASYNC_GENERATOR),
        (generator, FunctionKind.GENERATOR),
        (Yielding(), FunctionKind.GENERATOR),
        (plain, FunctionKind.PLAIN),
        (partial(plain), FunctionKind.PLAIN),
        (lambda job: b"", FunctionKind.PLAIN),
        (str, FunctionKind.PLAIN),
    ],
)
def test_the_kind_of_a_function_is_detected(call: Any, kind: FunctionKind) -> None:
    assert FunctionKind.of(call) is kind


# Threads.


async def test_a_plain_function_runs_in_a_thread(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    here = threading.get_ident()

    @worker.function("f")
    def f(job: WorkerJob) -> str:
        return f"elsewhere: {threading.get_ident() != here}"

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"elsewhere: True")


async def test_plain_functions_run_concurrently_up_to_the_concurrency(gearmand: Gearmand) -> None:
    worker, barrier = Worker(gearmand.address, concurrency=3), threading.Barrier(3, timeout=10)

    @worker.function("f")
    def f(job: WorkerJob) -> None:
        barrier.wait()

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do_many("f", [b""] * 6) == [b""] * 6


async def test_updates_from_a_thread_arrive_in_order_before_the_result(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    def f(job: WorkerJob) -> str:
        for number in range(100):
            job.send_data(str(number))
        job.send_status(1, 2)
        job.send_warning("w")
        return "end"

    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        assert await client.updates() == [
            *(("WORK_DATA", b"%d" % number) for number in range(100)),
            ("WORK_STATUS", b"1\x002"),
            ("WORK_WARNING", b"w"),
            ("WORK_COMPLETE", b"end"),
        ]


async def test_a_thread_that_sends_a_lot_blocks_until_the_job_server_has_received_it(gearmand: Gearmand) -> None:
    worker, sent = Worker(gearmand.address, heartbeat=None), list[int]()

    @worker.function("f")
    def f(job: WorkerJob) -> str:
        for number in range(30):
            job.send_data(bytes(1024 * 1024))
            sent.append(number)
        return "end"

    async with working(worker), connected(gearmand.address) as client:
        await eventually(worker.ready)
        await client.submit("f")
        session = session_of_worker(worker)
        most, updates = 0, asyncio.create_task(client.updates())
        while not updates.done():
            most = max(most, session.connection.unsent)
            await asyncio.sleep(0)
        assert len(await updates) == 31
    assert most < 4 * 1024 * 1024


async def test_an_exception_in_a_thread_ends_its_job(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f")
    def f(job: WorkerJob) -> None:
        if job.workload == b"fail":
            raise JobFailedError("no")
        with pytest.raises(LocalProtocolError, match="at most 11 characters"):
            job.send_status(1, 10**11)
        raise KeyError("x")

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"KeyError: 'x'")
        assert await client.do("f", b"fail") == ("WORK_FAIL", b"")


async def test_a_thread_sees_the_context_in_which_the_worker_runs(gearmand: Gearmand) -> None:
    worker, variable = Worker(gearmand.address), contextvars.ContextVar("variable", default="unset")

    @worker.function("f")
    def f(job: WorkerJob) -> str:
        return variable.get()

    variable.set("set")
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"set")


async def test_cancelling_run_does_not_wait_for_threads_and_they_can_send_no_more(gearmand: Gearmand) -> None:
    worker, started, go_on, ended = Worker(gearmand.address), threading.Event(), threading.Event(), threading.Event()
    errors = list[Exception]()

    @worker.function("f")
    def f(job: WorkerJob) -> str:
        started.set()
        go_on.wait(10)
        try:
            job.send_data(bytes(1024 * 1024))
        except LocalProtocolError as error:
            errors.append(error)
        ended.set()
        return "not sent"

    async with connected(gearmand.address) as client:
        run = asyncio.create_task(worker.run())
        await client.submit("f")
        await eventually(started.is_set)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        go_on.set()
        await eventually(ended.is_set)
    (error,) = errors
    assert str(error).endswith("of 'f' has ended")


# Chunks.


async def test_the_chunks_of_an_async_generator_are_sent_as_data(gearmand: Gearmand) -> None:
    worker, closed = Worker(gearmand.address), list[bool]()

    @worker.function("f")
    async def f(job: WorkerJob) -> AsyncGenerator[str, None]:
        try:
            for word in job.workload.split():
                yield word.decode()
            if job.workload == b"bad":
                raise ValueError("bad workload")
        finally:
            closed.append(True)

    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f", b"to be")
        assert await client.updates() == [("WORK_DATA", b"to"), ("WORK_DATA", b"be"), ("WORK_COMPLETE", b"")]
        await client.submit("f", b"bad")
        assert await client.updates() == [("WORK_DATA", b"bad"), ("WORK_EXCEPTION", b"ValueError: bad workload")]
    assert closed == [True, True]


async def test_a_generator_runs_in_a_thread_and_may_return_a_result(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    here = threading.get_ident()

    @worker.function("f")
    def f(job: WorkerJob) -> Generator[bytes, None, str]:
        yield b"1"
        yield b"2"
        return str(threading.get_ident() != here)

    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        assert await client.updates() == [("WORK_DATA", b"1"), ("WORK_DATA", b"2"), ("WORK_COMPLETE", b"True")]


async def test_a_chunk_of_another_type_is_an_exception_and_closes_the_generator(gearmand: Gearmand) -> None:
    worker, closed = Worker(gearmand.address), list[str]()

    @worker.function("async")
    async def async_f(job: WorkerJob) -> AsyncGenerator[Any, None]:
        try:
            yield 5
        finally:
            closed.append("async")

    @worker.function("plain")
    def plain_f(job: WorkerJob) -> Generator[Any, None, None]:
        try:
            yield 5
        finally:
            closed.append("plain")

    async with working(worker), connected(gearmand.address) as client:
        for name in ("async", "plain"):
            assert await client.do(name) == ("WORK_EXCEPTION", b"TypeError: data is bytes or text, got int")
    assert closed == ["async", "plain"]


@pytest.mark.parametrize("name", ["async", "plain"])
async def test_an_endless_generator_ends_when_its_connection_is_lost(gearmand: Gearmand, name: str) -> None:
    worker, closed = Worker(gearmand.address), threading.Event()

    @worker.function("async")
    async def async_f(job: WorkerJob) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x"
        finally:
            closed.set()

    @worker.function("plain")
    def plain_f(job: WorkerJob) -> Generator[bytes, None, None]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    async with working(worker), connected(gearmand.address) as client:
        await client.submit(name)
        assert await client.receive()
        gearmand.kill()
        await eventually(closed.is_set)


async def test_an_async_generator_waits_for_a_slow_job_server(gearmand: Gearmand) -> None:
    worker, sent = Worker(gearmand.address, heartbeat=None), list[int]()
    jobs, go_on = list[WorkerJob](), asyncio.Event()

    @worker.function("f")
    async def f(job: WorkerJob) -> AsyncGenerator[bytes, None]:
        jobs.append(job)
        await go_on.wait()
        for number in range(100):
            sent.append(number)
            yield bytes(1024 * 1024)

    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        await eventually(lambda: jobs)
        os.kill(gearmand.pid, signal.SIGSTOP)
        go_on.set()
        session = session_of_worker_job(jobs[0])
        await eventually(lambda: not session.connection.writable)
        count = len(sent)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(sent) == count < 100
        os.kill(gearmand.pid, signal.SIGCONT)
        assert len(await client.updates()) == 101
