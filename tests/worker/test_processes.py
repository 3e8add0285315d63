from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from geartrain.worker import Worker, WorkerJob
from geartrain.worker.processes import pool as pool_module
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.working import working
from tests.worker import process_functions
from tests.worker.test_executors import pass_through

pytestmark = pytest.mark.traced_processes


def offer(worker: Worker, *calls: Callable[[WorkerJob], Any], processes: int = 1, **options: Any) -> None:
    for call in calls:
        worker.function(call.__name__, processes=processes, **options)(call)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_function_runs_in_a_process_that_is_reused(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    offer(worker, process_functions.pid)
    async with working(worker), connected(gearmand.address) as client:
        pids = {(await client.do("pid"))[1] for _ in range(3)}
    assert len(pids) == 1
    assert pids != {str(os.getpid()).encode()}
    assert not is_alive(int(pids.pop()))


async def test_a_job_in_a_process_behaves_as_elsewhere(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, prefix="app")
    offer(worker, process_functions.describe, process_functions.updates, process_functions.chunks)
    async with working(worker), connected(gearmand.address) as client:
        handle = (await client.submit("app\tdescribe", b"a\0b", unique=b"key")).decode()
        text = f"describe key {handle} {gearmand.address} False {b'a' + bytes(1) + b'b'!r}"
        assert await client.updates() == [("WORK_COMPLETE", text.encode())]
        await client.submit("app\tupdates")
        assert await client.updates() == [
            ("WORK_DATA", b"a\0b"),
            ("WORK_STATUS", b"1\x002"),
            ("WORK_WARNING", b"from a thread"),
            ("WORK_COMPLETE", b"end"),
        ]
        await client.submit("app\tchunks")
        assert await client.updates() == [("WORK_DATA", b"1"), ("WORK_DATA", b"2"), ("WORK_COMPLETE", b"end")]


async def test_every_outcome_is_reported_and_a_dead_process_is_replaced(
    gearmand: Gearmand, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(gearmand.address)
    offer(worker, process_functions.misbehave)
    async with working(worker), connected(gearmand.address) as client:
        for workload, end in {
            b"fail": ("WORK_FAIL", b""),
            b"raise": ("WORK_EXCEPTION", b"KeyError: 'x'"),
            b"connection": ("WORK_EXCEPTION", b"ConnectionResetError: the function's own"),
            b"unpicklable": ("WORK_EXCEPTION", b"UnpicklableError: this and that"),
            b"type": ("WORK_EXCEPTION", b"TypeError: the result of 'misbehave' is bytes or text, got int"),
            b"sys.exit": ("WORK_EXCEPTION", b"SystemExit: 3"),
            b"exit": (
                "WORK_EXCEPTION",
                b"ChildProcessError: the process that ran 'misbehave' ended with status 3",
            ),
            b"kill": (
                "WORK_EXCEPTION",
                b"ChildProcessError: the process that ran 'misbehave' was killed by SIGKILL",
            ),
            b"nameless signal": (
                "WORK_EXCEPTION",
                b"ChildProcessError: the process that ran 'misbehave' was killed by signal %d" % (signal.SIGRTMIN + 3),
            ),
            b"": ("WORK_COMPLETE", b"well"),
        }.items():
            assert await client.do("misbehave", workload) == end
    assert 'raise KeyError("x")' in caplog.text  # the traceback of the process is in the log


@pytest.mark.parametrize("usable", [True, False])
def test_a_job_that_is_cancelled_when_it_has_just_ended_kills_no_process(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    """By then the process may run another job or have ended."""
    process = Mock(reusable=usable)
    monkeypatch.setattr(pool_module, "WorkerProcess", lambda *_: process)
    worker = Worker()
    offer(worker, process_functions.pid)
    pool = pool_module.ProcessPool(worker._functions[b"pid"], 1)
    job = Mock()
    release = pool._release

    def release_and_cancel(*arguments: Any) -> None:
        release(*arguments)
        pool.cancel(job)

    monkeypatch.setattr(pool, "_release", release_and_cancel)
    pool.add(job)
    pool.run(job)
    process.kill.assert_not_called()


async def test_processes_run_concurrently(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address, concurrency=3)
    offer(worker, process_functions.misbehave, processes=2)
    async with working(worker), connected(gearmand.address) as one, connected(gearmand.address) as other:
        pids = []
        for client in (one, other):
            await client.submit("misbehave", b"sleep")
            pids.append((await client.receive())[1].partition(b"\0")[2])
        assert len(set(pids)) == 2
        for pid in pids:
            os.kill(int(pid), 9)
        for client in (one, other):
            assert (await client.updates())[-1][1].endswith(b"was killed by SIGKILL")


async def test_a_job_that_takes_too_long_has_its_process_killed_and_its_slot_is_free(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    offer(worker, process_functions.misbehave, timeout=0.2)
    offer(worker, process_functions.pid)
    async with working(worker), connected(gearmand.address) as client:
        end = ("WORK_EXCEPTION", b"TimeoutError: 'misbehave' took longer than 0.2 s")
        assert await client.do("misbehave", b"sleep") == end
        assert (await client.do("pid"))[0] == "WORK_COMPLETE"


@pytest.mark.parametrize("middleware", [(), (pass_through,)], ids=["plain", "middleware"])
async def test_cancelling_run_kills_the_processes(gearmand: Gearmand, middleware: tuple[Any, ...]) -> None:
    worker = Worker(gearmand.address, concurrency=2, middleware=middleware)
    offer(worker, process_functions.misbehave)
    async with connected(gearmand.address) as client:
        run = asyncio.create_task(worker.run())
        await client.submit("misbehave", b"sleep")
        _, body = await client.receive()
        await client.submit("misbehave", b"waits for a process")
        if middleware:  # otherwise it waits in the job server
            await eventually(lambda: worker.statistics().running == 2)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await eventually(lambda: not is_alive(int(body.partition(b"\0")[2])))


async def test_an_endless_generator_in_a_process_ends_when_its_connection_is_lost(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    offer(worker, process_functions.endless)
    async with working(worker), connected(gearmand.address) as client:
        await client.submit("endless")
        assert await client.receive()
        gearmand.kill()
        await eventually(lambda: worker.statistics().lost == 1)


async def test_a_function_that_cannot_be_pickled_is_rejected_when_the_worker_starts() -> None:
    worker = Worker("127.0.0.1:1")
    worker.function("f", processes=1)(functools.partial(process_functions.pid, threading.Lock()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'f' runs in processes, so it has to be a function that a module has by name"):
        await worker.run()


def test_only_plain_functions_run_in_processes() -> None:
    async def coroutine(job: WorkerJob) -> None: ...

    with pytest.raises(TypeError, match="'f' runs in the loop, not in processes"):
        Worker().function("f", processes=1)(coroutine)
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        Worker().function("f", processes=0)(process_functions.pid)
