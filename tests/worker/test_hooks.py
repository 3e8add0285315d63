from __future__ import annotations

import asyncio
import contextvars

import pytest

from geartrain.errors import JobFailedError
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.function import Invoker
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, free_port
from tests.support.working import working
from tests.worker.test_worker import Gate, add_reverse

# Start and stop.


@pytest.mark.parametrize("coroutines", [False, True])
async def test_hooks_are_called_before_the_first_job_and_after_the_last(gearmand: Gearmand, coroutines: bool) -> None:
    calls = list[str]()

    async def on_start() -> None:
        await asyncio.sleep(0)
        calls.append("start")

    async def on_stop() -> None:
        calls.append("stop")

    if coroutines:
        worker = Worker(gearmand.address, on_start=on_start, on_stop=on_stop)
    else:
        worker = Worker(gearmand.address, on_start=lambda: calls.append("start"), on_stop=lambda: calls.append("stop"))

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        calls.append("job")

    async with connected(gearmand.address) as client:
        await client.submit("f")
        async with working(worker):
            await client.updates()
    assert calls == ["start", "job", "stop"]


async def test_on_stop_is_called_when_run_is_cancelled() -> None:
    calls = list[str]()
    worker = Worker(f"127.0.0.1:{free_port()}", on_stop=lambda: calls.append("stop"))
    add_reverse(worker)
    run = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert calls == ["stop"]


async def test_an_on_start_that_raises_ends_run_with_its_error() -> None:
    calls = list[str]()

    def on_start() -> None:
        raise OSError("no database")

    worker = Worker(f"127.0.0.1:{free_port()}", on_start=on_start, on_stop=lambda: calls.append("stop"))
    add_reverse(worker)
    with pytest.raises(OSError, match="no database"):
        await worker.run()
    assert calls == []
    assert worker.state == "idle"


async def test_stop_during_on_start_ends_the_run() -> None:
    worker = Worker(f"127.0.0.1:{free_port()}", on_start=lambda: worker.stop())
    add_reverse(worker)
    await asyncio.wait_for(worker.run(), 10)


@pytest.mark.parametrize("times", [1, 2])
async def test_stop_cancels_an_on_start_that_hangs(times: int) -> None:
    calls = list[str]()

    async def on_start() -> None:
        calls.append("start")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            calls.append("cancelled")
            raise

    worker = Worker(f"127.0.0.1:{free_port()}", on_start=on_start, on_stop=lambda: calls.append("stop"))
    add_reverse(worker)
    run = asyncio.create_task(worker.run())
    await eventually(lambda: calls)
    for _ in range(times):
        worker.stop()
    await asyncio.wait_for(run, 10)
    assert calls == ["start", "cancelled"]
    assert worker.state == "idle"


async def test_a_timeout_error_of_on_start_ends_run_with_it() -> None:
    async def on_start() -> None:
        raise TimeoutError("no database")

    worker = Worker(f"127.0.0.1:{free_port()}", on_start=on_start)
    add_reverse(worker)
    with pytest.raises(TimeoutError, match="no database"):
        await worker.run()


# Middleware.


async def test_middleware_wraps_each_job_with_the_first_one_outermost(gearmand: Gearmand) -> None:
    order = list[str]()

    async def outer(job: WorkerJob, call: Invoker) -> object:
        order.append(f"outer in {job.function}")
        try:
            return await call(job)
        finally:
            order.append("outer out")

    async def inner(job: WorkerJob, call: Invoker) -> object:
        order.append("inner in")
        result = await call(job)
        order.append(f"inner out {result!r}")
        return result.upper()

    worker = Worker(gearmand.address, middleware=[outer, inner])

    @worker.function("coroutine")
    async def coroutine(job: WorkerJob) -> str:
        order.append("function")
        return "result"

    @worker.function("thread")
    def thread(job: WorkerJob) -> str:
        return "result"

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("coroutine") == ("WORK_COMPLETE", b"RESULT")
        assert order == ["outer in coroutine", "inner in", "function", "inner out 'result'", "outer out"]
        assert await client.do("thread") == ("WORK_COMPLETE", b"RESULT")


async def test_middleware_sees_exceptions_and_timeouts_and_may_raise_others(gearmand: Gearmand) -> None:
    seen = list[str]()

    async def translate(job: WorkerJob, call: Invoker) -> object:
        try:
            return await call(job)
        except (ValueError, TimeoutError) as error:
            seen.append(str(error))
            raise JobFailedError("translated") from error

    worker = Worker(gearmand.address, middleware=[translate])

    @worker.function("f", timeout=0.05)
    async def f(job: WorkerJob) -> None:
        if job.workload:
            raise ValueError("bad")
        await Gate()(job)

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f", b"x") == ("WORK_FAIL", b"")
        assert await client.do("f") == ("WORK_FAIL", b"")
    assert seen == ["bad", "'f' took longer than 0.05 s"]


async def test_context_variables_set_by_middleware_reach_functions_and_threads(gearmand: Gearmand) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def trace(job: WorkerJob, call: Invoker) -> object:
        variable.set(job.unique)
        return await call(job)

    worker = Worker(gearmand.address, middleware=[trace], concurrency=2)

    @worker.function("coroutine")
    async def coroutine(job: WorkerJob) -> str:
        return variable.get()

    @worker.function("thread")
    def thread(job: WorkerJob) -> str:
        return variable.get()

    async with working(worker), connected(gearmand.address) as client:
        for name in ("coroutine", "thread"):
            await client.submit(name, unique=name.encode())
            assert await client.updates() == [("WORK_COMPLETE", name.encode())]


# Exceptions.


async def test_format_exception_sets_the_text_for_the_client(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, format_exception=lambda error: repr(error).encode())

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        raise ValueError("bad")

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"ValueError('bad')")


@pytest.mark.parametrize("wrong", [lambda error: error.missing, lambda error: 5])
async def test_the_default_format_replaces_a_format_exception_that_fails(
    gearmand: Gearmand, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gearmand.address, format_exception=wrong)  # type: ignore[arg-type]

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        raise ValueError("bad")

    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"ValueError: bad")
    assert [record.getMessage() for record in caplog.records][1:] == ["format_exception raised"]


# State, readiness and counters.


async def test_a_worker_is_ready_from_the_first_reply_until_it_stops(gearmand: Gearmand) -> None:
    worker, gate = Worker([f"127.0.0.1:{free_port()}", gearmand.address]), Gate()
    worker.function("f")(gate)
    assert (worker.state, worker.ready()) == ("idle", False)
    async with connected(gearmand.address) as client, working(worker) as run:
        await eventually(worker.ready)
        assert worker.statistics().state == "running"
        await client.submit("f")
        await eventually(lambda: gate.running)
        worker.stop()
        await eventually(lambda: worker.state == "stopping")
        assert not worker.ready()
        gate.open()
        await run
    assert worker.statistics().state == "idle"


async def test_a_worker_that_lost_its_only_job_server_is_not_ready(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    add_reverse(worker)
    async with working(worker):
        await eventually(worker.ready)
        gearmand.kill()
        await eventually(lambda: not worker.ready())
        gearmand.start()
        await eventually(worker.ready)


async def test_the_counters_add_up_over_all_outcomes_of_a_job(gearmand: Gearmand) -> None:
    dead = f"127.0.0.1:{free_port()}"
    worker, gate = Worker([gearmand.address, dead], concurrency=2), Gate()
    worker.function("gate")(gate)
    add_reverse(worker)

    @worker.function("fail")
    async def fail(job: WorkerJob) -> None:
        raise JobFailedError("no")

    @worker.function("raise")
    async def error(job: WorkerJob) -> None:
        raise ValueError("no")

    async with working(worker) as run:
        async with connected(gearmand.address) as client:
            for name in ("reverse", "reverse", "fail", "raise"):
                await client.do(name)
            await client.submit("gate")
            await eventually(lambda: gate.running)
            numbers = worker.statistics().servers[gearmand.address]
            assert numbers.connected_since is not None
            assert numbers[1:] == (5, 1, 2, 1, 1, 0, 0)
            assert worker.statistics().connected == 1
        gearmand.restart()
        await eventually(lambda: gate.jobs[0].lost)
        gate.open()
        await eventually(lambda: worker.statistics().lost == 1)
        async with connected(gearmand.address) as client:
            await client.do("reverse")
            await client.submit("gate")  # the gate is open
            await client.updates()
        run.cancel()
    total = worker.statistics()
    assert (total.taken, total.running, total.completed, total.failed, total.raised, total.lost) == (7, 0, 4, 1, 1, 1)
    assert total.servers[dead][1:] == (0, 0, 0, 0, 0, 0, 0)
    assert total.state == "idle"


async def test_jobs_returned_by_cancelling_are_counted_as_lost(gearmand: Gearmand) -> None:
    worker, gate = Worker(gearmand.address), Gate()
    worker.function("f")(gate)
    async with connected(gearmand.address) as client, working(worker) as run:
        await client.submit("f")
        await eventually(lambda: gate.running)
        run.cancel()
    total = worker.statistics()
    assert (total.taken, total.running, total.lost) == (1, 0, 1)
