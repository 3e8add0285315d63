"""`geartrain worker` in processes that are killed, paused and terminated, with job servers that are, too."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from geartrain import Admin, Client, Job, Worker, WorkerJob
from tests.support.environment import without_coverage
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.job_server import ROOT, AnyJobServer, JobServerStarter
from tests.support.process_worker import HEARTBEAT, PROCESSES, SLOTS
from tests.support.processes import end_process
from tests.support.raw_worker import echo_worker
from tests.support.wire import Wire
from tests.support.working import working

# The workers run in other processes, on asyncio's loop.
in_processes = pytest.mark.loops("asyncio")

TARGET = "tests.support.process_worker:make"
ENDED_BY_SIGNAL = (128 + signal.SIGTERM, 128 + signal.SIGINT)


@asynccontextmanager
async def running(
    directory: Path, *servers: AnyJobServer, processes: int | None = None, grace: float | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker until the end of the block; the block starts once all processes have registered at all servers."""
    options = [option for server in servers for option in ("-s", server.address)]
    environment = {
        **without_coverage(),
        "DIRECTORY": str(directory),
        **({} if grace is None else {"GRACE": str(grace)}),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "geartrain", "worker", TARGET, *options),
        *(() if processes is None else ("--processes", str(processes))),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: all(count_workers(server) == (processes or 1) for server in servers))
        yield process
    finally:
        await end_process(process)


def count_workers(server: AnyJobServer) -> int:
    with Wire(server.port) as wire:
        return sum(b" : " in line for line in wire.ask(b"workers"))


def show_status(server: AnyJobServer, function: str) -> tuple[int, ...]:
    """Return the number of jobs, running jobs and workers."""
    with Wire(server.port) as wire:
        rows = [line.split() for line in wire.ask(b"status")]
    return next(tuple(map(int, row[1:])) for row in rows if row[0] == function.encode())


async def submit_held(client: Client, function: str, **options: Any) -> tuple[Job, list[int]]:
    """Submit a job and wait until a process has it; also return the IDs of all processes that have had it."""
    holders: list[int] = []
    job = client.submit(function, b"ab", on_data=lambda data: holders.append(int(data)), **options)
    await eventually(lambda: holders)
    return job, holders


def read_ledger(directory: Path) -> list[bytes]:
    return (directory / "ledger").read_bytes().split()


async def do_ten_thousand(server: AnyJobServer, directory: Path) -> None:
    workloads = [b"%05d" % number for number in range(10_000)]
    async with running(directory, server, processes=PROCESSES), Client([server.address]) as client:
        await asyncio.gather(*(client.do("meet") for _ in range(PROCESSES * SLOTS)))
        results = [result async for result in client.map("note", workloads)]
    assert results == [workload[::-1] for workload in workloads]
    assert sorted(read_ledger(directory)) == workloads


def test_of_10_000_jobs_in_four_processes_none_is_lost_or_run_twice(job_server: AnyJobServer, tmp_path: Path) -> None:
    asyncio.run(do_ten_thousand(job_server, tmp_path))


# Killed.


@in_processes
async def test_the_job_of_a_killed_process_is_run_by_another(job_server: AnyJobServer, tmp_path: Path) -> None:
    async with running(tmp_path, job_server, processes=2), Client([job_server.address]) as client:
        job, holders = await submit_held(client, "hold")
        os.kill(holders[0], signal.SIGKILL)
        await eventually(lambda: len(holders) == 2)
        (tmp_path / "go").touch()
        assert int(await job) == holders[1] != holders[0]
        assert job.tries == 1, "the client must not notice"


@in_processes
async def test_processes_survive_the_death_of_their_job_server(gearmand: Gearmand, tmp_path: Path) -> None:
    async with running(tmp_path, gearmand, processes=2), Client([gearmand.address]) as client:
        job, holders = await submit_held(client, "hold", retry_count=20)
        gearmand.restart()
        await eventually(lambda: count_workers(gearmand) == 2)
        await eventually(lambda: len(holders) == 2)
        (tmp_path / "go").touch()
        assert int(await job) == holders[1]


@in_processes
async def test_when_one_of_two_job_servers_is_killed_only_its_jobs_are_run_again(
    start_job_server: JobServerStarter, tmp_path: Path
) -> None:
    one, two = start_job_server(), start_job_server()
    limit, workloads = 20, [b"%04d" % number for number in range(1000)]
    async with running(tmp_path, one, two, processes=2), Client([one.address, two.address], dead_time=30) as client:
        results = []
        async with aclosing(client.map("note", workloads, limit=limit, retry_count=5)) as iterator:
            async for result in iterator:
                results.append(result)
                if len(results) == 300:
                    one.kill()
        retried = client.statistics().retried
    assert results == [workload[::-1] for workload in workloads]
    ran = Counter(read_ledger(tmp_path))
    assert sorted(ran) == workloads
    assert ran.total() - len(workloads) <= retried <= limit


# Paused for longer than the heartbeat.


async def longer_than_the_heartbeat() -> None:
    """Wait until a running peer would consider a paused one dead."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * HEARTBEAT
    await eventually(lambda: loop.time() > end)


@in_processes
async def test_a_worker_that_was_paused_continues(gearmand: Gearmand, tmp_path: Path) -> None:
    """It must not mistake its own pause for a dead job server."""
    async with running(tmp_path, gearmand) as process, Client([gearmand.address]) as client:
        job, holders = await submit_held(client, "hold")
        process.send_signal(signal.SIGSTOP)
        await longer_than_the_heartbeat()
        process.send_signal(signal.SIGCONT)
        assert await client.do("note", b"ab") == b"ba", "the worker continues"
        async with Admin(gearmand.address) as admin:
            assert [listed.retries for listed in await admin.show_jobs()] == [0]
        (tmp_path / "go").touch()
        assert [int(await job)] == holders == [process.pid]


@in_processes
async def test_a_paused_job_server_does_not_affect_the_other_and_is_served_when_it_continues(tmp_path: Path) -> None:
    with Gearmand(tmp_path) as one, Gearmand(tmp_path) as two:
        async with running(tmp_path, one, two), Client([two.address]) as client, Client([one.address]) as later:
            one.pause()
            job = later.submit("note", b"later")
            end = asyncio.create_task(longer_than_the_heartbeat())
            while not end.done():
                assert await client.do("note", b"ab") == b"ba"
            one.resume()
            assert await job == b"retal"


# Terminated.


@pytest.mark.parametrize("processes", [None, 1])
@in_processes
async def test_long_jobs_finish_within_the_grace_period_and_no_more_are_taken(
    gearmand: Gearmand, tmp_path: Path, processes: int | None
) -> None:
    async with (
        running(tmp_path, gearmand, processes=processes, grace=60) as process,
        Client([gearmand.address]) as client,
    ):
        jobs = [(await submit_held(client, function))[0] for function in ("hold", "hold_in_thread")]
        process.terminate()
        await eventually((tmp_path / "stopping").exists)
        left = [await client.do_background("note", b"left") for _ in range(3)]
        (tmp_path / "go").touch()
        assert len({await job for job in jobs}) == 1
        assert await process.wait() == 0
        assert show_status(gearmand, "note") == (len(left), 0, 0)
    assert read_ledger(tmp_path) == []


@pytest.mark.parametrize(("function", "processes"), [("hold", 1), ("stuck", None)])
@in_processes
async def test_jobs_that_exceed_the_grace_period_are_returned(
    gearmand: Gearmand, tmp_path: Path, function: str, processes: int | None
) -> None:
    """A thread cannot be stopped, but it does not keep the process alive."""
    async with (
        running(tmp_path, gearmand, processes=processes, grace=0.05) as process,
        Client([gearmand.address]) as client,
    ):
        job, _ = await submit_held(client, function)
        process.terminate()
        assert await process.wait() == 0
        async with echo_worker(gearmand.address, function):
            assert (await job).endswith(b"ba")


@pytest.mark.parametrize(("function", "processes"), [("hold", 1), ("stuck", None)])
@in_processes
async def test_a_second_signal_ends_the_worker_immediately_and_returns_its_jobs(
    gearmand: Gearmand, tmp_path: Path, function: str, processes: int | None
) -> None:
    async with (
        running(tmp_path, gearmand, processes=processes, grace=60) as process,
        Client([gearmand.address]) as client,
    ):
        job, _ = await submit_held(client, function)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # a different one, because the kernel may merge two equal signals
        assert await process.wait() in ENDED_BY_SIGNAL
        async with echo_worker(gearmand.address, function):
            assert (await job).endswith(b"ba")


# Two job servers, one worker.


async def test_neither_of_two_busy_job_servers_starves(start_job_server: JobServerStarter) -> None:
    servers = [start_job_server(), start_job_server()]
    order: list[str] = []
    worker = Worker([server.address for server in servers])

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        order.append(job.server)

    for server in servers:
        async with Client([server.address]) as client:
            await asyncio.gather(*(client.do_background("f", b"%d" % n) for n in range(50)))
    async with working(worker):
        await eventually(lambda: len(order) == 100)
    assert all(len(set(order[begin : begin + 3])) == 2 for begin in range(98)), order


async def test_a_free_slot_takes_a_job_from_any_server_whatever_the_other_slots_run(
    start_job_server: JobServerStarter,
) -> None:
    """It does not wait for the next regular grab: it is woken, or has already sent one."""
    servers = [start_job_server() for _ in range(3)]
    worker = Worker([server.address for server in servers], concurrency=2, regrab_interval=1000, heartbeat=None)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @worker.function("long")
    async def long(job: WorkerJob) -> None:
        begun.set()
        await go_on.wait()

    @worker.function("short")
    async def short(job: WorkerJob) -> bytes:
        return job.workload

    async with working(worker):
        for busy in servers:
            async with Client([busy.address]) as client:
                held = client.submit("long")
                await begun.wait()
                for server in [*servers, *servers]:
                    async with Client([server.address]) as other:
                        assert await other.do("short", b"x") == b"x"
                go_on.set()
                await held
            begun.clear()
            go_on.clear()
