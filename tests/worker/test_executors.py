"""What a worker promises holds in whichever executor a plain function runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from geartrain.worker import Worker, WorkerJob
from tests.support.async_wire import AsyncWire, connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.working import working
from tests.worker import executor_functions
from tests.worker.executor_functions import TIMEOUT, VARIABLE


async def pass_through(job: WorkerJob, call: Callable[[WorkerJob], Awaitable[Any]]) -> Any:
    return await call(job)


class Executor(NamedTuple):
    """
    How the function is run.

    Attributes:
        loops: The event loops. Processes are slow to start, and depend little on the loop: each kind runs on one.
    """

    concurrency: int = 1
    processes: int | None = None
    middleware: tuple[Any, ...] = ()
    loops: tuple[str, ...] = ("asyncio", "uvloop")

    def make_worker(self, *servers: str, timeout: float | None = None, **options: Any) -> Worker:
        worker = Worker(servers, concurrency=self.concurrency, middleware=self.middleware, **options)
        worker.function("obey", processes=self.processes, timeout=timeout)(executor_functions.obey)
        return worker


EXECUTORS = {
    "a thread that reads": Executor(),
    "threads": Executor(concurrency=3),
    "threads and middleware": Executor(concurrency=3, middleware=(pass_through,)),
    "a process with connections": Executor(processes=1, loops=("asyncio",)),
    "a process and middleware": Executor(processes=1, middleware=(pass_through,), loops=("uvloop",)),
    "processes with connections": Executor(concurrency=3, processes=2, loops=("uvloop",)),
    "processes and middleware": Executor(concurrency=3, processes=2, middleware=(pass_through,), loops=("asyncio",)),
}


@pytest.fixture(
    params=[pytest.param(each, marks=pytest.mark.loops(*each.loops), id=name) for name, each in EXECUTORS.items()]
)
def executor(request: pytest.FixtureRequest) -> Executor:
    found: Executor = request.param
    return found


async def test_each_outcome_is_one_final_packet(executor: Executor, gearmand: Gearmand) -> None:
    async with working(executor.make_worker(gearmand.address)), connected(gearmand.address) as client:
        for order, end in {
            b"echo hello": ("WORK_COMPLETE", b"hello"),
            b"fail": ("WORK_FAIL", b""),
            b"crash": ("WORK_EXCEPTION", b"KeyError: 'x'"),
            b"leave": ("WORK_EXCEPTION", b"SystemExit: 3"),
            b"give_number": ("WORK_EXCEPTION", b"TypeError: the result of 'obey' is bytes or text, got int"),
            b"return_awaitable": ("WORK_COMPLETE", b"awaited"),
            b"echo": ("WORK_COMPLETE", b""),
        }.items():
            await client.submit("obey", order)
            *updates, last = await client.updates()
            assert (last, updates) == (end, [("WORK_WARNING", b"no")] if order == b"fail" else [])


async def test_updates_arrive_while_the_function_runs(executor: Executor, gearmand: Gearmand, tmp_path: Path) -> None:
    async with working(executor.make_worker(gearmand.address)), connected(gearmand.address) as client:
        await client.submit("obey", f"report_and_wait {tmp_path}/go".encode())
        kinds = [(await client.receive())[0].name for _ in range(3)]
        assert kinds == ["WORK_DATA", "WORK_STATUS", "WORK_WARNING"]
        (tmp_path / "go").touch()
        assert await client.updates() == [("WORK_COMPLETE", b"end")]


async def test_updates_of_threads_and_generators_are_sent(executor: Executor, gearmand: Gearmand) -> None:
    async with working(executor.make_worker(gearmand.address)), connected(gearmand.address) as client:
        await client.submit("obey", b"yield_chunks")
        assert await client.updates() == [("WORK_DATA", b"1"), ("WORK_DATA", b"2"), ("WORK_COMPLETE", b"end")]
        await client.submit("obey", b"report_in_threads")
        *updates, end = await client.updates()
        assert sorted(updates) == [("WORK_DATA", b"%d" % number) for number in range(5)]
        assert end == ("WORK_COMPLETE", b"")


async def test_a_job_that_has_ended_can_send_nothing_more(executor: Executor, gearmand: Gearmand) -> None:
    executor_functions.late.clear()
    one = executor._replace(concurrency=1, processes=executor.processes and 1)  # one process keeps the job
    async with working(one.make_worker(gearmand.address)), connected(gearmand.address) as client:
        await client.submit("obey", b"report_late")
        assert [kind for kind, _ in await client.updates()] == ["WORK_DATA", "WORK_COMPLETE"]
        await client.submit("obey", b"report_late")
        assert await client.updates() == [("WORK_COMPLETE", b"refused")]


async def test_large_workloads_and_results_pass(executor: Executor, gearmand: Gearmand) -> None:
    async with working(executor.make_worker(gearmand.address)), connected(gearmand.address) as client:
        text = b"x" * 3_000_000
        assert await client.do("obey", b"echo " + text) == ("WORK_COMPLETE", text)


async def test_a_result_that_is_too_large_ends_its_job_once(executor: Executor, gearmand: Gearmand) -> None:
    worker = executor.make_worker(gearmand.address, max_packet_size=100_000)
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("obey", b"fill 100000") == ("WORK_COMPLETE", bytes(100_000))
        await client.submit("obey", b"fill 100001")
        text = b"JobTooLargeError: result of 100001 bytes exceeds max_packet_size 100000"
        assert await client.updates() == [("WORK_EXCEPTION", text)]
        assert await client.do("obey", b"echo next") == ("WORK_COMPLETE", b"next")


async def run_until_complete(client: AsyncWire) -> None:
    """Run jobs until one is complete: a process takes time to start, and that counts."""
    async with asyncio.timeout(10):
        while await client.do("obey", b"echo next") != ("WORK_COMPLETE", b"next"):
            pass


@pytest.mark.parametrize("order", ["sleep", "spin"])
async def test_at_the_edge_of_the_timeout_each_job_has_one_of_two_ends(
    executor: Executor, gearmand: Gearmand, order: str
) -> None:
    """gearmand answers a second final packet with an ERROR, which the worker counts."""
    in_processes = executor.processes is not None
    edge = round(TIMEOUT * 1000) if in_processes else 100  # milliseconds
    worker = executor.make_worker(gearmand.address, timeout=edge / 1000)
    ends: Counter[tuple[str, bytes]] = Counter()
    async with working(worker), connected(gearmand.address) as client:
        await run_until_complete(client)
        for milliseconds in (-edge, 0, 200) if in_processes else (-edge, -2, -1, 0, 1, 2, 200):
            await client.submit("obey", b"%s %f" % (order.encode(), (edge + milliseconds) / 1000))
            updates = await client.updates()
            assert len(updates) == 1
            ends[updates[0]] += 1
        await run_until_complete(client)
    assert set(ends) == {
        ("WORK_COMPLETE", b"slept" if order == "sleep" else b"spun"),
        ("WORK_EXCEPTION", f"TimeoutError: 'obey' took longer than {edge / 1000:g} s".encode()),
    }
    (server,) = worker.statistics().servers.values()
    assert server.refused == 0


async def test_each_job_has_the_context_of_run(executor: Executor, gearmand: Gearmand) -> None:
    VARIABLE.set("from run")
    expected = b"from run" if executor.processes is None else b"unset"
    async with working(executor.make_worker(gearmand.address)), connected(gearmand.address) as client:
        for value in (b"a", b"b", b"c"):
            result = await client.do("obey", b"set_variable " + value)
            # A process has one context for all of its jobs.
            assert result[1] == expected or (executor.processes is not None and result[1] in (b"a", b"b"))


@pytest.mark.parametrize("order", [b"wait_until_lost", b"raise_when_lost", b"fail_when_lost"])
async def test_a_function_sees_that_its_job_is_lost_and_the_worker_reconnects(
    executor: Executor, tmp_path: Path, order: bytes
) -> None:
    with Gearmand(tmp_path) as gearmand:
        worker = executor.make_worker(gearmand.address)
        async with working(worker):
            async with connected(gearmand.address) as client:
                await client.submit("obey", order)
                assert (await client.receive())[0].name == "WORK_DATA"
                gearmand.restart()
            await eventually(lambda: worker.statistics().lost == 1)
            await eventually(worker.ready)
            async with connected(gearmand.address) as client:
                assert await client.do("obey", b"echo again") == ("WORK_COMPLETE", b"again")


async def test_stop_waits_for_the_running_job_and_its_result(executor: Executor, gearmand: Gearmand) -> None:
    worker = executor.make_worker(gearmand.address)
    async with connected(gearmand.address) as client:
        async with working(worker) as run:
            await client.submit("obey", b"sleep 0.2")
            await eventually(lambda: worker.statistics().taken == 1)
            worker.stop()
            await run
        assert await client.updates() == [("WORK_COMPLETE", b"slept")]


async def test_a_worker_stops_after_max_jobs(executor: Executor, gearmand: Gearmand) -> None:
    worker = executor.make_worker(gearmand.address, max_jobs=5)
    async with connected(gearmand.address) as client, working(worker) as run:
        assert sorted(await client.do_many("obey", [b"echo %d" % number for number in range(5)])) == [
            b"%d" % number for number in range(5)
        ]
        await run
        assert worker.statistics().completed == 5


async def test_several_job_servers_are_served_in_turn(executor: Executor, tmp_path: Path) -> None:
    with Gearmand(tmp_path) as first, Gearmand(tmp_path) as second:
        async with (
            working(executor.make_worker(first.address, second.address)),
            connected(first.address) as client,
            connected(second.address) as other,
        ):
            workloads = [b"echo %d" % number for number in range(50)]
            expected = sorted(b"%d" % number for number in range(50))

            async def run(wire: AsyncWire) -> list[bytes]:
                return sorted(await wire.do_many("obey", workloads))

            assert list(await asyncio.gather(run(client), run(other))) == [expected, expected]


async def test_no_job_waits_in_the_worker_while_another_runs(
    executor: Executor, gearmand: Gearmand, tmp_path: Path
) -> None:
    """A second worker is free, and must get what the first one cannot run at once."""
    busy = executor.make_worker(gearmand.address)
    running = executor.concurrency
    if executor.processes is not None and not executor.middleware:
        running = executor.processes  # each takes a job when it can run it
    async with working(busy), connected(gearmand.address) as client:
        for _ in range(running):
            await client.submit("obey", f"wait_for {tmp_path}/go".encode())
        await eventually(lambda: busy.statistics().taken == running)
        free = Worker(gearmand.address)
        free.function("obey")(lambda job: b"free")
        async with working(free), connected(gearmand.address) as other:
            assert await other.do("obey", b"echo busy") == ("WORK_COMPLETE", b"free")
        (tmp_path / "go").touch()


async def test_a_job_that_is_not_asked_for_again_is_run_once(executor: Executor, gearmand: Gearmand) -> None:
    worker = executor.make_worker(gearmand.address)
    async with working(worker), connected(gearmand.address) as client:
        workloads = [b"echo %d" % number for number in range(300)]
        results = await client.do_many("obey", workloads)
        assert sorted(results) == sorted(b"%d" % number for number in range(300))
        await eventually(lambda: worker.statistics().completed == 300)
    assert worker.statistics().taken == 300


@pytest.mark.parametrize(
    "middleware",
    [
        pytest.param((), marks=pytest.mark.loops("asyncio"), id="plain"),
        pytest.param((pass_through,), marks=pytest.mark.loops("uvloop"), id="middleware"),
    ],
)
@pytest.mark.parametrize("order", ["die_at_start", "die_while_sending", "die_after_return", "die_at_timeout"])
async def test_wherever_a_process_is_killed_each_job_ends_once(
    gearmand: Gearmand, order: str, middleware: tuple[Any, ...]
) -> None:
    executor = Executor(concurrency=2, processes=2, middleware=middleware)
    worker = executor.make_worker(gearmand.address, timeout=TIMEOUT)
    ends: Counter[bytes] = Counter()
    async with working(worker), connected(gearmand.address) as client:
        for number in range(3):
            await run_until_complete(client)
            await client.submit("obey", f"{order} {number * 0.0004:f}".encode())
            *updates, (kind, end) = await client.updates()
            assert {kind for kind, _ in updates} <= {"WORK_DATA"}
            ends[kind.encode() + b" " + end.partition(b":")[0]] += 1
        await run_until_complete(client)
    assert set(ends) <= {b"WORK_EXCEPTION ChildProcessError", b"WORK_EXCEPTION TimeoutError", b"WORK_COMPLETE done"}
    (server,) = worker.statistics().servers.values()
    if middleware:
        assert (server.refused, server.lost) == (0, 0)
    # One with connections of its own may be killed in the middle of a packet, which costs the connection.
    assert server.taken == server.completed + server.raised + server.lost


async def test_a_job_ends_although_format_exception_and_log_handlers_raise(
    executor: Executor, gearmand: Gearmand, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RaisingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    def format_exception(error: BaseException) -> str:
        raise ValueError("no")

    logger = logging.getLogger("tests.raising_everywhere")
    logger.addHandler(handler := RaisingHandler(logging.ERROR))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    worker = executor.make_worker(gearmand.address, logger=logger, format_exception=format_exception)
    try:
        async with working(worker), connected(gearmand.address) as client:
            assert await client.do("obey", b"crash") == ("WORK_EXCEPTION", b"KeyError: 'x'")
            assert await client.do("obey", b"echo next") == ("WORK_COMPLETE", b"next")
    finally:
        logger.removeHandler(handler)
