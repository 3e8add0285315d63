"""Many jobs: ``map`` yields in the order of the workloads, ``as_completed`` in the order of completion."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from geartrain import Client, Job, JobFailedError, JobHandle, ServerError
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client
from tests.support.fake_server import FakeServer
from tests.support.inside import channels_of, dispatcher_of

P = PacketType


async def serve(server: FakeServer, fail: bytes) -> None:
    """Complete each job with its reversed workload; of two queued jobs, the later one first."""
    peer = await server.accept()
    held: list[tuple[bytes, bytes]] = []
    for number in itertools.count():
        kind, (_, _, workload) = await peer.receive()
        handle = b"H:%d" % number
        peer.send(P.JOB_CREATED, handle)
        if kind is P.SUBMIT_JOB:
            held.insert(0, (handle, workload))
        if len(held) > 1 or not peer.has_more():
            for handle, workload in held:
                peer.send(P.WORK_WARNING, handle, b"got " + workload)
                if workload == fail:
                    peer.send(P.WORK_FAIL, handle)
                else:
                    peer.send(P.WORK_COMPLETE, handle, workload[::-1])
            held.clear()


@asynccontextmanager
async def serving(*, fail: bytes = b"") -> AsyncIterator[Client]:
    """A client whose server completes jobs with their reversed workload."""
    async with fake_client() as (client, server):
        task = asyncio.create_task(serve(server, fail))
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def as_async(workloads: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for workload in workloads:
        await asyncio.sleep(0)
        yield workload


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_results_come_in_the_order_of_the_workloads(asynchronous: bool, limit: int) -> None:
    workloads = (b"%03d" % n for n in range(50))
    async with serving() as client:
        source = as_async(workloads) if asynchronous else workloads
        results = [result async for result in client.map("f", source, limit=limit)]
    assert results == [(b"%03d" % n)[::-1] for n in range(50)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_no_workloads_give_no_results(asynchronous: bool) -> None:
    async with Client() as client:
        source = as_async(iter(())) if asynchronous else ()
        assert [result async for result in client.map("f", source)] == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_endless_workloads_are_read_at_most_limit_ahead(asynchronous: bool) -> None:
    read: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in itertools.count():
            read.append(number)
            yield b"%d" % number

    async with serving() as client:
        async_source = as_async(endless())
        async with (
            aclosing(async_source),
            aclosing(client.map("f", async_source if asynchronous else endless(), limit=5)) as results,
        ):
            for taken in range(1, 20):
                await anext(results)
                assert len(read) <= taken + 5
                assert client.statistics().outstanding <= 5


async def test_results_are_returned_while_the_next_workload_is_awaited() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"12"
        await asyncio.get_running_loop().create_future()

    async with serving() as client, aclosing(client.map("f", stuck())) as results:
        assert await anext(results) == b"21"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_first_failure_is_raised_at_its_position_and_ends_the_others(asynchronous: bool) -> None:
    async with serving(fail=b"3") as client:
        workloads = (b"%d" % n for n in itertools.count())
        results = client.map("f", as_async(workloads) if asynchronous else workloads, limit=10)
        for number in range(3):
            assert await anext(results) == b"%d" % number
        with pytest.raises(JobFailedError):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        assert client.statistics().outstanding == 0


async def test_failures_are_results_with_return_exceptions() -> None:
    async with serving(fail=b"1") as client:
        results = [r async for r in client.map("f", [b"0", b"1", b"2"], return_exceptions=True)]
    assert results[::2] == [b"0", b"2"]
    assert isinstance(results[1], JobFailedError)
    assert results[1].reason == "got 1"


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_in_the_background_the_results_are_handles(return_exceptions: bool) -> None:
    async with serving() as client:
        handles = [
            handle
            async for handle in client.map(
                "f", [b"1", b"2"], background=True, limit=1, return_exceptions=return_exceptions
            )
        ]
        assert handles == [JobHandle(client.job_servers[0], f"H:{n}") for n in range(2)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_leaving_early_cancels_what_is_outstanding(asynchronous: bool) -> None:
    async with fake_client() as (client, server):
        workloads = (b"%d" % n for n in itertools.count())
        async with aclosing(client.map("f", as_async(workloads) if asynchronous else workloads, limit=3)) as results:
            waiting = asyncio.ensure_future(anext(results))
            peer = await server.accept()
            for number in range(3):
                await peer.expect_job(b"H:%d" % number)
            peer.send(P.WORK_COMPLETE, b"H:0", b"first")
            assert await waiting == b"first"
        statistics = client.statistics()
        assert statistics.outstanding == 0
        assert statistics.cancelled in (2, 3)  # another job may already have been sent in place of the first
        assert not any(channel.waiting for channel in channels_of(client))


async def test_leaving_early_reports_no_unretrieved_errors() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with fake_client() as (client, server):
        async with aclosing(client.map("f", [b"0", b"1", b"2"])) as results:
            waiting = asyncio.ensure_future(anext(results))
            peer = await server.accept()
            for number in range(3):
                await peer.expect_job(b"H:%d" % number)
            peer.send(P.WORK_FAIL, b"H:2")
            peer.send(P.WORK_COMPLETE, b"H:0", b"first")
            assert await waiting == b"first"
            await eventually(lambda: client.statistics().failed == 1)
        gc.collect()
        assert not reported, "an error that the application cannot retrieve must not be reported"


async def test_cancelling_the_wait_for_a_result_ends_the_iteration_and_its_jobs() -> None:
    async with fake_client() as (client, server):
        results = client.map("f", [b"1", b"2"])
        waiting = asyncio.ensure_future(anext(results))
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await peer.expect_job(b"H:2")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert client.statistics().outstanding == 0
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_asynchronous_workloads_are_iterated_in_one_task() -> None:
    """Context variables and timeouts can span several workloads, as in a plain ``async for``."""
    variable = contextvars.ContextVar("variable", default="")

    async def workloads() -> AsyncGenerator[bytes, None]:
        token = variable.set("mine")
        try:
            async with asyncio.timeout(None) as limit:
                yield b"1"
                yield b"2"
                loop = asyncio.get_running_loop()
                limit.reschedule(loop.time())
                await loop.create_future()
        except TimeoutError:
            yield b"%d" % (variable.get() == "mine")
        finally:
            variable.reset(token)

    async with serving() as client:
        assert [result async for result in client.map("f", workloads())] == [b"1", b"2", b"1"]


class BrokenError(Exception):
    """Raised by an iterable of workloads."""


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 4, 1000])
async def test_an_exception_of_the_workloads_is_raised_at_its_position(
    asynchronous: bool, return_exceptions: bool, limit: int
) -> None:
    """The results of earlier jobs come first. The exception is never returned as the result of a job."""

    def broken() -> Iterator[bytes]:
        yield from (b"12", b"34", b"56")
        raise BrokenError

    async with serving() as client:
        source = as_async(broken()) if asynchronous else broken()
        results = client.map("f", source, limit=limit, return_exceptions=return_exceptions)
        assert [await anext(results) for _ in range(3)] == [b"21", b"43", b"65"]
        with pytest.raises(BrokenError):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_workloads_that_raise_immediately_open_no_connection(asynchronous: bool) -> None:
    def broken() -> Iterator[bytes]:
        raise BrokenError
        yield b""

    async with fake_client() as (client, server):
        with pytest.raises(BrokenError):
            await anext(client.map("f", as_async(broken()) if asynchronous else broken()))
        assert server.connections == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_job_that_fails_before_the_workloads_is_raised_at_its_position(asynchronous: bool) -> None:
    def broken() -> Iterator[bytes]:
        yield from (b"1", b"2", b"3")
        raise BrokenError

    async with serving(fail=b"2") as client:
        results = client.map("f", as_async(broken()) if asynchronous else broken())
        assert await anext(results) == b"1"
        with pytest.raises(JobFailedError):
            await anext(results)
        assert client.statistics().outstanding == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_invalid_workload_is_a_type_error_at_its_position(asynchronous: bool) -> None:
    async with serving() as client:
        for wrong in (None, 7):
            workloads: Any = [b"12", wrong, b"34"]
            results = client.map("f", as_async(iter(workloads)) if asynchronous else workloads)
            assert await anext(results) == b"21"
            with pytest.raises(TypeError, match="a workload must be bytes or str"):
                await anext(results)


async def test_an_asynchronous_source_that_raises_stop_iteration_is_an_error_not_an_endless_wait() -> None:
    """A future cannot hold that exception, so the consumer was never notified of the end."""

    class Source:
        def __aiter__(self) -> Source:
            return self

        def __anext__(self) -> Any:
            raise StopIteration

    async with Client(["127.0.0.1:1"]) as client:
        with pytest.raises(RuntimeError, match="the source of the workloads raised StopIteration"):
            async for _ in client.map("f", Source()):
                raise AssertionError("there is no workload")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": 1.5}, TypeError),
        ({"unique": "u" * 64}, ValueError),
        ({"x": 1}, TypeError),
    ],
)
async def test_invalid_arguments_raise_immediately(options: Any, error: type[Exception]) -> None:
    async with Client() as client:
        with pytest.raises(error):
            client.map("f", [b""], **options)


async def test_a_map_that_is_never_iterated_does_nothing() -> None:
    async with Client() as client:
        results = client.map("f", [b"1"])
        assert dispatcher_of(client).is_idle
        await results.aclose()


async def test_an_iteration_that_is_not_closed_is_cleaned_up() -> None:
    async with fake_client() as (client, server):

        async def leave() -> None:
            async for _ in client.map("f", (b"%d" % n for n in itertools.count()), limit=3):
                break

        leaving = asyncio.create_task(leave())
        peer = await server.accept()
        for number in range(3):
            await peer.expect_job(b"H:%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:0", b"")
        await leaving
        gc.collect()
        await eventually(lambda: client.statistics().outstanding == 0)


async def test_map_raises_an_error_of_the_server() -> None:
    async with fake_client() as (client, server):
        waiting = asyncio.ensure_future(anext(client.map("f", [b"1"])))
        peer = await server.accept()
        await peer.expect_job()
        peer.send(P.ERROR, b"QUEUE_ERROR", b"")
        with pytest.raises(ServerError):
            await waiting


# as_completed.


async def test_as_completed_yields_jobs_in_the_order_in_which_they_end() -> None:
    async with fake_client() as (client, server):
        jobs = [client.submit("f") for _ in range(4)]
        peer = await server.accept()
        for number in range(4):
            await peer.expect_job(b"H:%d" % number)
        ended: list[Job] = []

        async def collect() -> None:
            ended.extend([job async for job in client.as_completed(jobs)])

        collecting = asyncio.create_task(collect())
        peer.send(P.WORK_COMPLETE, b"H:2", b"")
        await jobs[2]
        peer.send(P.WORK_FAIL, b"H:0")
        await asyncio.wait([jobs[0]])
        jobs[3].cancel()
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await collecting
        assert ended == [jobs[2], jobs[0], jobs[3], jobs[1]]
        assert isinstance(jobs[0].exception(), JobFailedError)


async def test_as_completed_yields_finished_jobs_first() -> None:
    async with fake_client() as (client, server):
        jobs = [client.submit("f") for _ in range(2)]
        peer = await server.accept()
        for number in range(2):
            await peer.expect_job(b"H:%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await jobs[1]
        async with aclosing(client.as_completed(iter(jobs))) as ended:
            assert await anext(ended) is jobs[1]
        assert not jobs[0].done(), "leaving early must not cancel jobs"
        jobs[0].cancel()


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_as_completed_leaves_no_callback_on_a_job_that_outlives_it(how: str) -> None:
    async with fake_client() as (client, server):
        jobs = [client.submit("f") for _ in range(2)]
        peer = await server.accept()
        for number in range(2):
            await peer.expect_job(b"H:%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        ended = client.as_completed(jobs)
        assert await anext(ended) is jobs[1]
        assert jobs[0]._callbacks  # there is no public access
        if how == "closed":
            await ended.aclose()
        else:
            waiting = asyncio.ensure_future(anext(ended))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert not jobs[0]._callbacks
        jobs[0].cancel()


async def test_as_completed_without_jobs_ends_immediately() -> None:
    async with Client() as client:
        assert [job async for job in client.as_completed([])] == []
