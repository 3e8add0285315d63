from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from contextlib import AsyncExitStack

import pytest

from geartrain.worker import Worker, WorkerJob
from geartrain.worker.function import OnTimeout
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer
from tests.support.scripted import sleep_forever
from tests.support.wire import Wire
from tests.support.working import working
from tests.worker.test_worker import add_reverse


@pytest.mark.parametrize(
    ("on_timeout", "end"),
    [("exception", ("WORK_EXCEPTION", b"TimeoutError: 'f' took longer than 0.05 s")), ("fail", ("WORK_FAIL", b""))],
)
async def test_the_worker_ends_a_job_that_takes_too_long(
    job_server: AnyJobServer, on_timeout: OnTimeout, end: tuple[str, bytes]
) -> None:
    worker, cancelled = Worker(job_server.address), list[bool]()

    @worker.function("f", timeout=0.05, on_timeout=on_timeout)
    async def f(job: WorkerJob) -> None:
        try:
            await sleep_forever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    add_reverse(worker)
    async with working(worker), connected(job_server.address) as client:
        assert await client.do("f") == end
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
    assert cancelled == [True]


async def test_a_job_that_ends_in_time_is_unaffected_by_the_timeout(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)

    @worker.function("f", timeout=10)
    async def f(job: WorkerJob) -> str:
        if job.workload:
            raise TimeoutError("the function's own")
        return "quick"

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_COMPLETE", b"quick")
        assert await client.do("f", b"x") == ("WORK_EXCEPTION", b"TimeoutError: the function's own")


async def test_a_thread_that_takes_too_long_keeps_its_slot_until_it_returns(gearmand: Gearmand) -> None:
    worker, go_on, order = Worker(gearmand.address), threading.Event(), list[str]()

    @worker.function("slow", timeout=0.05)
    def slow(job: WorkerJob) -> None:
        go_on.wait(10)
        order.append("slow")

    @worker.function("quick")
    async def quick(job: WorkerJob) -> None:
        order.append("quick")

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("slow") == ("WORK_EXCEPTION", b"TimeoutError: 'slow' took longer than 0.05 s")
        await client.submit("quick")
        go_on.set()
        await client.updates()
    assert order == ["slow", "quick"]


async def test_stop_waits_for_a_thread_whose_job_has_ended(gearmand: Gearmand) -> None:
    worker, go_on = Worker(gearmand.address), threading.Event()

    @worker.function("f", timeout=0.05)
    def f(job: WorkerJob) -> None:
        go_on.wait(10)

    async with working(worker) as run, connected(gearmand.address) as client:
        await client.do("f")
        worker.stop()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not run.done()
        go_on.set()
        await run


async def test_can_do_timeout_has_the_job_server_give_the_job_to_another(gearmand: Gearmand) -> None:
    """The late result of the first worker is rejected without further effects."""
    slow, quick = Worker(gearmand.address), Worker(gearmand.address)
    started, go_on = asyncio.Event(), asyncio.Event()

    @slow.function("f", can_do_timeout=1)
    async def late(job: WorkerJob) -> str:
        started.set()
        await go_on.wait()
        return "late"

    @quick.function("f")
    async def f(job: WorkerJob) -> str:
        return "in time"

    async with connected(gearmand.address) as client, working(slow):
        await client.submit("f")
        await started.wait()
        async with working(quick):
            assert await client.updates() == [("WORK_COMPLETE", b"in time")]
        go_on.set()
        with Wire(gearmand.port) as admin:
            await eventually(lambda: admin.ask(b"show jobs") == [])


async def test_a_thread_that_returns_an_awaitable_after_its_timeout_frees_its_slot(gearmand: Gearmand) -> None:
    worker, awaited, has_ended = Worker(gearmand.address), list[bool](), threading.Event()

    @worker.function("late", timeout=0.05)
    def late(job: WorkerJob) -> Awaitable[str]:
        async def answer() -> str:
            awaited.append(True)
            return "late"

        has_ended.wait(10)
        return answer()

    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("late") == ("WORK_EXCEPTION", b"TimeoutError: 'late' took longer than 0.05 s")
        has_ended.set()
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
    assert awaited == []


async def test_every_job_times_out_although_a_log_handler_raises(gearmand: Gearmand) -> None:
    class RaisingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    logger = logging.getLogger("tests.raising_handler")
    logger.addHandler(handler := RaisingHandler(logging.ERROR))
    worker, go_on = Worker(gearmand.address, concurrency=4, logger=logger), threading.Event()

    @worker.function("slow", timeout=0.05)
    def slow(job: WorkerJob) -> None:
        go_on.wait(10)

    raised: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    try:
        async with working(worker), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(gearmand.address)) for _ in range(4)]
            ends = await asyncio.gather(*(client.do("slow") for client in clients))
            assert ends == [("WORK_EXCEPTION", b"TimeoutError: 'slow' took longer than 0.05 s")] * 4
            go_on.set()
    finally:
        logger.removeHandler(handler)
    assert [str(error) for error in raised] == ["the disk is full"] * 4
