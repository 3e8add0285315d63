"""Whatever a function raises or returns, in every executor, its job ends with one packet and the worker continues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from geartrain import JobServer
from geartrain.worker import Worker, WorkerJob
from geartrain.worker.exceptions import format_traceback
from tests.support.async_wire import AsyncWire, connected
from tests.support.working import working
from tests.worker import odd_functions
from tests.worker.odd_functions import ERRORS, FAILURES, MEGABYTE, RESULTS, WordlessError

EXECUTORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "coroutine": (odd_functions.coroutine, {}),
    "async_generator": (odd_functions.async_generator, {}),
    "thread": (odd_functions.plain, {}),
    "thread_generator": (odd_functions.generator, {}),
    "thread_awaitable": (odd_functions.awaitable, {}),
    "process": (odd_functions.plain, {"processes": 1}),
    "process_generator": (odd_functions.generator, {"processes": 1}),
    "process_awaitable": (odd_functions.awaitable, {"processes": 1}),
}


def make_worker(address: str, **options: Any) -> Worker:
    worker = Worker(address, **options)
    for name, (function, how) in EXECUTORS.items():
        worker.function(name, **how)(function)

    @worker.function("upper")
    async def upper(job: WorkerJob) -> bytes:
        return job.workload.upper()

    return worker


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[AsyncWire]:
    """Run a worker with all functions; yield a client."""
    async with (
        JobServer(port=0) as server,
        working(make_worker(server.address, **options)),
        connected(server.address) as client,
    ):
        yield client


async def ends(client: AsyncWire, name: str, workload: str) -> list[tuple[str, bytes]]:
    """Submit a job and one after it; return all packets about the first."""
    await client.submit(name, workload.encode())
    packets = await client.updates()
    assert await client.do("upper", b"ab") == ("WORK_COMPLETE", b"AB")
    return packets


@pytest.mark.traced_processes
@pytest.mark.parametrize("executor", EXECUTORS)
async def test_every_exception_ends_its_job_with_one_packet(executor: str) -> None:
    async with JobServer(port=0) as server:
        worker = make_worker(server.address)
        async with working(worker), connected(server.address) as client:
            for name, (_, text) in ERRORS.items():
                if name == "StopAsyncIteration" and executor == "async_generator":
                    text = b"RuntimeError: async generator raised StopAsyncIteration"  # PEP 525
                assert await ends(client, executor, name) == [("WORK_EXCEPTION", text)]
            for name, (_, reason) in FAILURES.items():
                assert await ends(client, executor, name) == [("WORK_WARNING", reason), ("WORK_FAIL", b"")]
    total = worker.statistics()
    assert (total.raised, total.failed, total.lost, total.running) == (len(ERRORS), len(FAILURES), 0, 0)


@pytest.mark.parametrize("executor", EXECUTORS)
async def test_every_exception_ends_its_job_inside_middleware(executor: str) -> None:
    async def middleware(job: WorkerJob, call: Any) -> Any:
        return await call(job)

    async with served(middleware=[middleware]) as client:
        for name, (_, text) in ERRORS.items():
            if name == "StopAsyncIteration" and executor == "async_generator":
                text = b"RuntimeError: async generator raised StopAsyncIteration"  # PEP 525
            assert await ends(client, executor, name) == [("WORK_EXCEPTION", text)]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("has_middleware", [False, True])
async def test_what_a_function_raises_when_it_is_stopped_at_its_timeout_ends_only_its_job(
    error: type[BaseException], has_middleware: bool
) -> None:
    async def middleware(job: WorkerJob, call: Any) -> Any:
        return await call(job)

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    async with JobServer(port=0) as server:
        worker = make_worker(server.address, middleware=[middleware] if has_middleware else [])
        worker.function("stopped", timeout=0.05)(lambda job: wait())
        async with working(worker), connected(server.address) as client:
            ((kind, _),) = await ends(client, "stopped", "")
    assert kind == "WORK_EXCEPTION"


@pytest.mark.traced_processes
@pytest.mark.parametrize("executor", EXECUTORS)
async def test_every_result_ends_its_job_with_one_packet(executor: str) -> None:
    is_generator = "generator" in executor
    what = b"data" if is_generator else f"the result of {executor!r}".encode()
    async with served() as client:
        for name, (_, (kind, text)) in RESULTS.items():
            packets = [(kind, text.replace(b"{what}", what))]
            if kind == "{data}":
                packets = [("WORK_DATA", text), ("WORK_COMPLETE", b"")] if is_generator else [("WORK_COMPLETE", text)]
            assert await ends(client, executor, name) == packets


def raise_wordless(error: BaseException) -> bytes:
    raise WordlessError


def exit_program(error: BaseException) -> bytes:
    raise SystemExit(3)


FORMATS = [raise_wordless, exit_program, lambda _: None, odd_functions.PretendedBytes, odd_functions.Unreadable]


@pytest.mark.parametrize("format_exception", FORMATS)
async def test_the_default_format_replaces_a_format_exception_that_raises(
    format_exception: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def call(error: BaseException) -> Any:
        return format_exception(error) if format_exception in FORMATS[:2] else format_exception()

    async with served(format_exception=call) as client:
        assert await ends(client, "coroutine", "no __str__") == [("WORK_EXCEPTION", ERRORS["no __str__"][1])]
    assert "format_exception raised" in caplog.text


@pytest.mark.parametrize("name", ERRORS)
async def test_the_log_has_the_traceback_escaped_and_shortened(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with served() as client:
        await ends(client, "thread", name)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    text = logging.Formatter("%(message)s").format(record)
    assert len(text) < 100_000
    assert text.replace("\n", "").replace("\t", "").isprintable()
    if name != "no __notes__":  # Python 3.11 and 3.12 do not format that
        assert "in act" in text


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    text = format_traceback(ValueError("first " + "x" * MEGABYTE + " last"))
    assert text.startswith("ValueError: first")
    assert text.endswith("last")
    assert f"... [{MEGABYTE + 24} characters]" in text
