"""What a timeout does to middleware, in every executor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from geartrain import JobServer
from geartrain.worker import Worker, WorkerJob, invocation
from geartrain.worker.function import Invoker, OnTimeout
from tests.support.async_wire import connected
from tests.support.scripted import sleep_forever
from tests.support.working import working
from tests.worker import process_functions

TIMEOUT = "'f' took longer than 0.1 s"
ENDS: dict[OnTimeout, tuple[str, bytes]] = {
    "exception": ("WORK_EXCEPTION", f"TimeoutError: {TIMEOUT}".encode()),
    "fail": ("WORK_FAIL", b""),
}
go_on = threading.Event()


async def coroutine(job: WorkerJob) -> None:
    await sleep_forever()


async def async_generator(job: WorkerJob) -> AsyncGenerator[bytes, None]:
    await sleep_forever()
    yield b""


def in_thread(job: WorkerJob) -> None:
    go_on.wait(30)


EXECUTORS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "coroutine": (coroutine, {}),
    "async_generator": (async_generator, {}),
    "thread": (in_thread, {}),
    "process": (process_functions.sleep, {"processes": 1}),
}


async def end_of(function: Any, *layers: Any, on_timeout: OnTimeout = "exception", **options: Any) -> Any:
    """Run one job of ``f`` through middleware; return the packet that ends it."""
    go_on.clear()
    async with JobServer(port=0) as server:
        worker = Worker(server.address, middleware=layers)
        worker.function("f", timeout=0.1, on_timeout=on_timeout, **options)(function)
        async with working(worker), connected(server.address) as client:
            try:
                return await client.do("f")
            finally:
                go_on.set()


@pytest.mark.parametrize("on_timeout", ENDS)
@pytest.mark.parametrize("executor", EXECUTORS)
async def test_call_raises_timeout_error_inside_the_middleware(executor: str, on_timeout: OnTimeout) -> None:
    seen = list[str]()

    async def look(job: WorkerJob, call: Invoker) -> object:
        try:
            return await call(job)
        except BaseException as error:
            seen.append(f"{type(error).__name__}: {error}")
            raise

    function, options = EXECUTORS[executor]
    assert await end_of(function, look, look, on_timeout=on_timeout, **options) == ENDS[on_timeout]
    assert seen == [f"TimeoutError: {TIMEOUT}"] * 2


async def test_middleware_decides_the_outcome_of_a_timeout() -> None:
    async def replace(job: WorkerJob, call: Invoker) -> object:
        try:
            return await call(job)
        except TimeoutError:
            await asyncio.sleep(0)
            return b"late"

    assert await end_of(coroutine, replace, on_timeout="fail") == ("WORK_COMPLETE", b"late")


@pytest.mark.parametrize("on_timeout", ENDS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_middleware_that_does_not_end_after_a_timeout_is_cancelled(
    when: str, on_timeout: OnTimeout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "MIDDLEWARE_GRACE", 0.1)
    seen = list[str]()

    async def hang(job: WorkerJob, call: Invoker) -> object:
        try:
            if when == "after":
                await asyncio.wait([asyncio.ensure_future(call(job))])
            await sleep_forever()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return None

    assert await end_of(coroutine, hang, on_timeout=on_timeout) == ENDS[on_timeout]
    assert seen == ["cancelled"]


async def test_a_function_that_middleware_calls_after_its_timeout_is_not_run() -> None:
    ran = list[WorkerJob]()

    async def late(job: WorkerJob, call: Invoker) -> object:
        with pytest.raises(TimeoutError):
            await call(job)
        ran.clear()
        return await call(job)

    async def function(job: WorkerJob) -> None:
        ran.append(job)
        await sleep_forever()

    assert await end_of(function, late) == ENDS["exception"]
    assert not ran


@pytest.mark.parametrize("place", ["function", "middleware"])
async def test_a_timeout_error_raised_by_user_code_is_an_ordinary_exception(place: str) -> None:
    async def raise_own(job: WorkerJob, call: Invoker) -> object:
        if place == "middleware":
            raise TimeoutError("own")
        return await call(job)

    async def function(job: WorkerJob) -> None:
        raise TimeoutError("own")

    end = ("WORK_EXCEPTION", b"TimeoutError: own")
    assert await end_of(function, raise_own, on_timeout="fail") == end


async def test_middleware_without_a_timeout_has_no_time_limit() -> None:
    async def slow(job: WorkerJob, call: Invoker) -> object:
        result = await call(job)
        await asyncio.sleep(0)
        return result

    async with JobServer(port=0) as server:
        worker = Worker(server.address, middleware=[slow])

        @worker.function("f")
        async def f(job: WorkerJob) -> bytes:
            return b"done"

        async with working(worker), connected(server.address) as client:
            assert await client.do("f") == ("WORK_COMPLETE", b"done")
