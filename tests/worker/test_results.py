"""Any callable works as a function, in every executor: its result is awaited, or sent in chunks."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import pytest

from geartrain import JobServer
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.function import FunctionKind
from tests.support.async_wire import connected
from tests.support.working import working


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A common kind of decorator: a plain function that hides what it wraps."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same without functools.wraps."""
    return lambda job: function(job)


async def coroutine(job: WorkerJob) -> bytes:
    await asyncio.sleep(0)
    return job.workload


def plain(job: WorkerJob) -> bytes:
    return job.workload


def generator(job: WorkerJob) -> Generator[bytes, None, bytes]:
    yield b"chunk"
    return job.workload


async def async_generator(job: WorkerJob) -> AsyncGenerator[bytes, None]:
    yield b"chunk"


async def returns_awaitable(job: WorkerJob) -> Awaitable[bytes]:
    return coroutine(job)


async def returns_generator(job: WorkerJob) -> AsyncGenerator[bytes, None]:
    return async_generator(job)


class Ready:
    """An awaitable that is not a coroutine."""

    def __init__(self, result: bytes) -> None:
        self._result = result

    def __await__(self) -> Generator[Any, None, bytes]:
        yield from asyncio.sleep(0).__await__()
        return self._result


class Object:
    """A callable object, and bound methods."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, job: WorkerJob) -> Any:
        return self._function(job)

    async def method(self, job: WorkerJob) -> Any:
        return await coroutine(job)


class AsyncObject:
    async def __call__(self, job: WorkerJob) -> bytes:
        return await coroutine(job)


def second(first: object, job: WorkerJob) -> Any:
    return coroutine(job)


def ready(job: WorkerJob) -> Ready:
    return Ready(job.workload)


RESULT = [("WORK_COMPLETE", b"ab")]
CHUNKS = [("WORK_DATA", b"chunk"), ("WORK_COMPLETE", b"ab")]
ASYNC_CHUNKS = [("WORK_DATA", b"chunk"), ("WORK_COMPLETE", b"")]

CALLABLES: dict[str, tuple[Callable[..., Any], list[tuple[str, bytes]]]] = {
    "coroutine": (coroutine, RESULT),
    "plain": (plain, RESULT),
    "generator": (generator, CHUNKS),
    "async generator": (async_generator, ASYNC_CHUNKS),
    "traced coroutine": (traced(coroutine), RESULT),
    "traced generator": (traced(generator), CHUNKS),
    "traced async generator": (traced(async_generator), ASYNC_CHUNKS),
    "twice traced": (traced(traced(coroutine)), RESULT),
    "lambda of a coroutine": (untraced(coroutine), RESULT),
    "lambda of a generator": (untraced(generator), CHUNKS),
    "partial of a coroutine": (functools.partial(coroutine), RESULT),
    "partial of a plain function": (functools.partial(second, None), RESULT),
    "partial of an async object": (functools.partial(AsyncObject()), RESULT),
    "async object": (AsyncObject(), RESULT),
    "object": (Object(coroutine), RESULT),
    "method": (Object(plain).method, RESULT),
    "object of a generator": (Object(generator), CHUNKS),
    "awaitable object": (ready, RESULT),
    "coroutine that returns an awaitable": (returns_awaitable, RESULT),
    "coroutine that returns a generator": (returns_generator, ASYNC_CHUNKS),
}

IN_PROCESSES: dict[str, tuple[Callable[..., Any], list[tuple[str, bytes]]]] = {
    "plain": (plain, RESULT),
    "generator": (generator, CHUNKS),
    "object": (Object(coroutine), RESULT),
    "object of a generator": (Object(generator), CHUNKS),
    "object of an async generator": (Object(async_generator), ASYNC_CHUNKS),
    "partial": (functools.partial(second, None), RESULT),
    "awaitable object": (ready, RESULT),
}


def in_process(job: WorkerJob) -> Any:
    """Run the function that is named by the job's unique."""
    return IN_PROCESSES[job.unique][0](job)


async def pass_on(job: WorkerJob, call: Callable[[WorkerJob], Awaitable[Any]]) -> Any:
    result = await call(job)
    assert result is None or type(result) is bytes
    return result


@pytest.mark.parametrize("options", [{}, {"timeout": 30}, {"middleware": [pass_on]}], ids=["bare", "timeout", "layer"])
async def test_any_callable_works_as_a_function(options: dict[str, Any]) -> None:
    timeout = options.pop("timeout", None)
    async with JobServer(port=0) as server:
        worker = Worker(server.address, **options)
        for name, (call, _) in CALLABLES.items():
            worker.function(name, timeout=timeout)(call)
        worker.function("process", timeout=timeout, processes=1)(in_process)
        async with working(worker), connected(server.address) as client:
            for name, (_, packets) in CALLABLES.items():
                await client.submit(name, b"ab")
                assert (name, await client.updates()) == (name, packets)
            for name, (_, packets) in IN_PROCESSES.items():
                await client.submit("process", b"ab", unique=name.encode())
                assert (name, await client.updates()) == (name, packets)


def test_an_async_call_behind_partials_is_detected() -> None:
    assert FunctionKind.of(functools.partial(functools.partial(AsyncObject()))) is FunctionKind.COROUTINE
    assert FunctionKind.of(functools.partial(async_generator)) is FunctionKind.ASYNC_GENERATOR
    assert FunctionKind.of(traced(coroutine)) is FunctionKind.PLAIN


async def test_a_wrapper_runs_in_a_thread_and_what_it_returns_in_the_loop_and_its_context() -> None:
    """A wrapper may block, such as asgiref's async_to_sync does."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    loop_thread = threading.get_ident()

    async def inner(wrapper_thread: int) -> str:
        return f"{wrapper_thread != loop_thread} {threading.get_ident() == loop_thread} {variable.get()}"

    def wrapper(job: WorkerJob) -> Any:
        variable.set("of the wrapper")
        return inner(threading.get_ident())

    async with JobServer(port=0) as server:
        worker = Worker(server.address)
        worker.function("f")(wrapper)
        async with working(worker), connected(server.address) as client:
            assert await client.do("f") == ("WORK_COMPLETE", b"True True of the wrapper")


@pytest.mark.parametrize("kind", ["returned", "coroutine"])
async def test_a_timeout_cancels_what_is_awaited(kind: str) -> None:
    cancelled = list[bool]()

    async def hang(job: WorkerJob) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def returns_it(job: WorkerJob) -> Any:
        return hang(job)

    async with JobServer(port=0) as server:
        worker = Worker(server.address)
        worker.function("f", timeout=0.1)(traced(hang) if kind == "returned" else returns_it)
        async with working(worker), connected(server.address) as client:
            assert await client.do("f") == ("WORK_EXCEPTION", b"TimeoutError: 'f' took longer than 0.1 s")
    assert cancelled == [True]
