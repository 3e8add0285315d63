"""Results, updates and workloads over ``max_packet_size``: only their job fails, once, and others continue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from geartrain import (
    Client,
    Job,
    JobData,
    JobError,
    JobExceptionError,
    JobFailedError,
    JobServer,
    JobTooLargeError,
    JobWarning,
    ServerError,
)
from geartrain.worker import Worker, WorkerJob
from tests.support.job_server import AnyJobServer
from tests.support.working import working
from tests.worker import process_functions

LIMIT = 100_000


async def coroutine(job: WorkerJob) -> bytes | None:
    return process_functions.large(job)


def generator(job: WorkerJob) -> Generator[bytes, None, bytes | None]:
    if job.workload.startswith(b"data"):
        yield bytes(int(job.workload.split()[1]))
    return process_functions.large(job)


async def async_generator(job: WorkerJob) -> AsyncGenerator[bytes | None, None]:
    if job.workload.startswith(b"data"):
        yield bytes(int(job.workload.split()[1]))
    yield process_functions.large(job)


EXECUTORS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "coroutine": (coroutine, {}),
    "thread": (process_functions.large, {}),
    "process": (process_functions.large, {"processes": 1}),
    "generator": (generator, {}),
    "async generator": (async_generator, {}),
}


def counted(runs: list[bytes]) -> Callable[..., Any]:
    async def count(job: WorkerJob, next_call: Callable[[WorkerJob], Any]) -> Any:
        runs.append(job.workload)
        return await next_call(job)

    return count


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("what", ["result", "data", "warning"])
async def test_a_worker_fails_a_job_once_whose_result_or_update_is_too_large(
    job_server: AnyJobServer, executor: str, what: str
) -> None:
    if executor == "async generator" and what == "result":
        return  # each of its chunks is an update, as in "data"
    call, options = EXECUTORS[executor]
    runs: list[bytes] = []
    worker = Worker(job_server.address, max_packet_size=LIMIT, concurrency=2, middleware=[counted(runs)])
    worker.function("f", **options)(call)
    async with working(worker), Client(job_server.address) as client:
        with pytest.raises(JobExceptionError) as caught:
            await client.do("f", b"%b %d" % (what.encode(), LIMIT + 1))
        kind = "result" if what == "result" else "update"
        assert (
            caught.value.data
            == f"JobTooLargeError: {kind} of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}".encode()
        )
        assert len(runs) == 1
        if what == "result":
            assert await client.do("f", b"result %d" % LIMIT) == bytes(LIMIT)
    assert worker.statistics().raised == 1


async def test_a_worker_fails_a_job_once_whose_workload_is_too_large(job_server: AnyJobServer) -> None:
    runs: list[bytes] = []
    worker = Worker(job_server.address, max_packet_size=LIMIT)

    @worker.function("f")
    async def f(job: WorkerJob) -> bytes:
        runs.append(job.workload)
        return b"%d" % len(job.workload)

    async with working(worker), Client(job_server.address) as client:
        jobs = [client.submit("f", bytes(size)) for size in (LIMIT, LIMIT + 1, 10 * LIMIT, 1)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert (outcomes[0], outcomes[3]) == (b"%d" % LIMIT, b"1")
        for outcome, size in zip(outcomes[1:3], (LIMIT + 1, 10 * LIMIT), strict=True):
            assert isinstance(outcome, JobExceptionError)
            assert outcome.data == b"JobTooLargeError: workload of %d bytes exceeds max_packet_size %d" % (size, LIMIT)
    assert [len(workload) for workload in runs] == [LIMIT, 1]
    statistics = worker.statistics()
    assert (statistics.taken, statistics.completed, statistics.raised) == (4, 2, 2)


WAYS: dict[str, Callable[[Client], Any]] = {
    "do": lambda client: client.do("f", b"result %d" % (LIMIT + 1), retry_count=2),
    "do with a timeout": lambda client: client.do("f", b"result %d" % (LIMIT + 1), timeout=9, retry_count=2),
    "submit": lambda client: client.submit("f", b"result %d" % (LIMIT + 1), retry_count=2),
    "a unique": lambda client: client.submit("f", b"result %d" % (LIMIT + 1), unique="-", retry_count=2),
    "a callback": lambda client: client.submit("f", b"result %d" % (LIMIT + 1), on_fail=lambda error: None),
    "data": lambda client: client.submit("f", b"data %d" % (LIMIT + 1), retry_count=2),
    "warning": lambda client: client.submit("f", b"warning %d" % (LIMIT + 1), retry_count=2),
}


@pytest.mark.parametrize("way", WAYS)
async def test_data_too_large_for_the_client_ends_only_its_job_and_is_not_retried(
    job_server: AnyJobServer, way: str
) -> None:
    runs: list[bytes] = []
    release = asyncio.Event()
    worker = Worker(job_server.address, concurrency=10, middleware=[counted(runs)])
    worker.function("f")(coroutine)

    @worker.function("small")
    async def small(job: WorkerJob) -> bytes:
        await release.wait()
        return b"small"

    async with working(worker), Client(job_server.address, max_packet_size=LIMIT) as client:
        others = [client.submit("small") for _ in range(3)]
        with pytest.raises(JobTooLargeError) as caught:
            await WAYS[way](client)
        assert isinstance(caught.value, JobError)
        assert caught.value.limit == LIMIT < caught.value.size
        release.set()
        assert await asyncio.gather(*others) == [b"small"] * 3
        assert len([run for run in runs if run]) == 1
        statistics = client.statistics().servers[job_server.address]
        assert (statistics.failed, statistics.retried, statistics.outstanding) == (1, 0, 0)


async def test_every_merged_submission_ends(job_server: AnyJobServer) -> None:
    async with Client(job_server.address, max_packet_size=LIMIT) as client:
        jobs = [client.submit("f", b"result %d" % (LIMIT + 1), unique="-") for _ in range(3)]
        await asyncio.gather(*(job.created() for job in jobs))
        worker = Worker(job_server.address)
        worker.function("f")(coroutine)
        async with working(worker):
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [JobTooLargeError] * 3


@pytest.mark.parametrize("options", [{}, {"timeout": 9}], ids=["together", "one by one"])
async def test_one_result_of_a_map_may_be_too_large(job_server: AnyJobServer, options: dict[str, Any]) -> None:
    worker = Worker(job_server.address, concurrency=3)
    worker.function("f")(coroutine)
    workloads = [b"result %d" % size for size in (1, LIMIT + 1, LIMIT)]
    async with working(worker), Client(job_server.address, max_packet_size=LIMIT) as client:
        results = [r async for r in client.map("f", workloads, return_exceptions=True, **options)]
        assert isinstance(results[1], JobTooLargeError)
        assert (results[0], results[2]) == (bytes(1), bytes(LIMIT))


@pytest.mark.parametrize("as_async", [False, True])
@pytest.mark.parametrize("limit", [1024, 70_000])
async def test_a_map_raises_at_the_position_of_a_workload_that_is_too_large(
    job_server: AnyJobServer, as_async: bool, limit: int
) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> bytes:
        return job.workload[:1]

    workloads = [b"1", b"2" * limit, b"3" * (limit + 1), b"4"]

    async def source() -> AsyncGenerator[bytes, None]:
        for workload in workloads:
            yield workload

    async with working(worker), Client(job_server.address, max_packet_size=limit) as client:
        results = client.map("f", source() if as_async else workloads)
        assert [await anext(results), await anext(results)] == [b"1", b"2"]
        with pytest.raises(ValueError, match=f"a workload of {limit + 1} bytes exceeds max_packet_size {limit}"):
            await anext(results)
        await client.drain()


async def test_iterating_a_job_yields_the_updates_before_one_that_is_too_large(
    job_server: AnyJobServer,
) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> bytes:
        job.send_data(b"small")
        job.send_data(bytes(LIMIT + 1))
        job.send_data(b"late")
        return b"done"

    async with working(worker), Client(job_server.address, max_packet_size=LIMIT) as client:
        job = client.submit("f")
        assert [update async for update in job] == [JobData(b"small")]
        with pytest.raises(
            JobTooLargeError, match=f"sent a WORK_DATA of {LIMIT + 1} bytes; max_packet_size is {LIMIT}"
        ):
            await job


@pytest.mark.parametrize("processes", [None, 1])
async def test_a_function_can_continue_after_an_update_that_is_too_large(
    job_server: AnyJobServer, processes: int | None
) -> None:
    worker = Worker(job_server.address, max_packet_size=LIMIT)
    worker.function("f", processes=processes)(process_functions.too_large_updates)
    async with working(worker), Client(job_server.address) as client:
        *raised, pid = (await client.do("f", str(LIMIT + 1))).decode().split("\n")
        text = f"update of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}"
        assert raised == [f"send_data: {text}", f"send_warning: {text}"]
        assert await client.do("f", str(LIMIT)) == pid.encode()


@pytest.mark.parametrize("what", ["result", "data", "warning"])
async def test_a_process_survives_a_result_or_update_that_is_too_large(job_server: AnyJobServer, what: str) -> None:
    worker = Worker(job_server.address, max_packet_size=LIMIT)
    worker.function("large", processes=1)(process_functions.large_or_pid)
    async with working(worker), Client(job_server.address) as client:
        pid = await client.do("large", "pid 0")
        with pytest.raises(JobExceptionError, match=f"JobTooLargeError: .* of {LIMIT + 1} bytes"):
            await client.do("large", f"{what} {LIMIT + 1}")
        assert await client.do("large", "pid 0") == pid


# At the limit, and one byte from it

AROUND = (LIMIT - 1, LIMIT, LIMIT + 1)


async def send(job: WorkerJob) -> bytes | None:
    """Like :func:`process_functions.large`, but ``exception`` raises with that many bytes for the client."""
    if job.workload.startswith(b"exception"):
        raise ValueError(job.workload.decode())
    return process_functions.large(job)


def format_exception(error: BaseException) -> bytes:
    return bytes(int(str(error).split()[1])) if isinstance(error, ValueError) else f"{type(error).__name__}".encode()


async def outcome_of(client: Client, what: str, size: int) -> tuple[str, object]:
    """Return the outcome of a job that sends this much: the number of bytes received, or an error."""
    job = client.submit("f", f"{what} {size}")
    updates = [update async for update in job]
    error = job.exception()
    if isinstance(error, JobExceptionError):
        return "exception", len(error.data) if set(error.data) == {0} else error.data
    if error is not None:
        return "error", type(error)
    update = updates[0] if updates else None
    if isinstance(update, JobWarning):
        return "warning", len(update.data)
    if isinstance(update, JobData):
        return "data", len(update.data)
    return "result", len(await job)


@pytest.mark.parametrize("what", ["result", "data", "warning", "exception"])
async def test_a_client_accepts_exactly_max_packet_size(job_server: AnyJobServer, what: str) -> None:
    worker = Worker(job_server.address, format_exception=format_exception)
    worker.function("f")(send)
    async with working(worker), Client(job_server.address, max_packet_size=LIMIT) as client:
        outcomes = [await outcome_of(client, what, size) for size in AROUND]
    assert outcomes == [(what, LIMIT - 1), (what, LIMIT), ("error", JobTooLargeError)]


@pytest.mark.parametrize("what", ["result", "data", "warning", "exception"])
async def test_a_worker_sends_exactly_max_packet_size(job_server: AnyJobServer, what: str) -> None:
    worker = Worker(job_server.address, format_exception=format_exception, max_packet_size=LIMIT)
    worker.function("f")(send)
    async with working(worker), Client(job_server.address) as client:
        outcomes = [await outcome_of(client, what, size) for size in AROUND]
    refusal = b"JobTooLargeError"
    if what == "exception":
        refusal += f": exception of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}".encode()
    assert outcomes[:2] == [(what, LIMIT - 1), (what, LIMIT)]
    assert outcomes[2] == ("exception", refusal)


async def test_a_client_sends_and_a_worker_accepts_exactly_max_packet_size(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address, max_packet_size=LIMIT)

    @worker.function("f")
    async def f(job: WorkerJob) -> str:
        return str(len(job.workload))

    async with (
        working(worker),
        Client(job_server.address, max_packet_size=LIMIT) as client,
        Client(job_server.address) as unlimited,
    ):
        for size in AROUND[:2]:
            assert await client.do("f", bytes(size)) == str(size).encode()
        for call in (client.do, client.do_background, client.submit):
            with pytest.raises(ValueError, match=f"a workload of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}"):
                await call("f", bytes(LIMIT + 1))
        with pytest.raises(JobExceptionError, match=f"workload of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}"):
            await unlimited.do("f", bytes(LIMIT + 1))


@pytest.mark.parametrize("what", ["result", "data", "warning", "exception"])
async def test_the_job_server_accepts_exactly_max_packet_size(what: str) -> None:
    async with JobServer(port=0, max_packet_size=LIMIT) as server, Client(server.address) as client:
        worker = Worker(server.address, format_exception=format_exception)
        worker.function("f")(send)
        async with working(worker):
            outcomes = [await outcome_of(client, what, size) for size in AROUND]
    assert outcomes == [(what, LIMIT - 1), (what, LIMIT), ("error", JobFailedError)]


# Our own job server


async def test_the_job_server_rejects_a_workload_that_is_too_large() -> None:
    async with JobServer(port=0, max_packet_size=LIMIT) as server, Client(server.address) as client:
        job: Job = client.submit("f", bytes(LIMIT + 1))
        with pytest.raises(ServerError, match="ARGUMENT_TOO_LARGE Workload exceeds max_packet_size") as caught:
            await job
        assert caught.value.code == "ARGUMENT_TOO_LARGE"
        with pytest.raises(ServerError):
            await client.do_background("f", bytes(LIMIT + 1))
        assert (await client.do_background("f", bytes(LIMIT))).server == server.address


@pytest.mark.parametrize("what", ["result", "data", "warning"])
async def test_the_job_server_fails_a_job_whose_result_is_too_large_and_does_not_reassign_it(what: str) -> None:
    runs: list[bytes] = []
    async with JobServer(port=0, max_packet_size=LIMIT) as server, Client(server.address) as client:
        worker = Worker(server.address, middleware=[counted(runs)])
        worker.function("f")(coroutine)
        async with working(worker):
            with pytest.raises(JobFailedError):
                await client.do("f", b"%b %d" % (what.encode(), LIMIT + 1))
            assert await client.do("f", b"result 1") == bytes(1)
    assert len(runs) == 2
