"""Hooks inside each process, and middleware around functions in all executors."""

from __future__ import annotations

import functools
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from geartrain import JobServer, Worker, WorkerJob, blocking
from tests.support.async_wire import connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.working import working
from tests.worker import process_hooks
from tests.worker.test_executors import pass_through

pytestmark = [pytest.mark.traced_processes, pytest.mark.loops("asyncio")]

HOOKS: Any = {"on_process_start": process_hooks.start, "on_process_stop": process_hooks.stop}
MODES: dict[str, Any] = {"connections of their own": {}, "jobs from the worker": {"middleware": [pass_through]}}


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(process_hooks.DIRECTORY, str(tmp_path))
    return tmp_path


def names(notes: Path) -> set[str]:
    return {note.name for note in notes.glob("stopped *")}


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
async def test_the_hooks_run_in_each_process_before_its_first_job_and_at_its_end(
    gearmand: Gearmand, options: Any, notes: Path
) -> None:
    worker = Worker(gearmand.address, **HOOKS, **options)
    worker.function("f", processes=1)(process_hooks.count_starts)
    async with connected(gearmand.address) as client:
        async with working(worker):
            pid, starts = (await client.do("f"))[1].decode().split()
            assert await client.do("f") == ("WORK_COMPLETE", f"{pid} {starts}".encode())
        assert starts == "1"
        assert names(notes) == {f"stopped {pid}"}
    assert not process_hooks.calls, "in the worker's own process"


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
async def test_a_process_that_is_killed_calls_no_hook(gearmand: Gearmand, options: Any, notes: Path) -> None:
    worker = Worker(gearmand.address, **HOOKS, **options)
    worker.function("f", processes=1, timeout=1)(process_hooks.hang)
    async with working(worker), connected(gearmand.address) as client:
        await client.submit("f")
        (_, pid), (end, _) = await client.updates()
    assert end == "WORK_EXCEPTION"
    assert f"stopped {pid.decode()}" not in names(notes)


async def test_without_its_start_hook_a_process_takes_no_jobs(
    gearmand: Gearmand, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (notes / "fail").touch()
    worker = Worker(gearmand.address, **HOOKS)
    worker.function("f", processes=1)(process_hooks.count_starts)
    async with working(worker), connected(gearmand.address) as client:
        await eventually(lambda: len(caplog.records) >= 2)
        (notes / "fail").unlink()
        assert (await client.do("f"))[0] == "WORK_COMPLETE"
    error, warning = caplog.records[:2]
    assert (error.levelname, error.getMessage()) == ("ERROR", "on_process_start raised KeyError")
    assert warning.getMessage() == (
        "a process for 'f' could not be started, or has died: the process that ran 'f' ended with status 1"
    )


async def test_a_job_for_which_a_process_cannot_start_ends_with_the_exception(
    gearmand: Gearmand, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    (notes / "fail").touch()
    worker = Worker(gearmand.address, **HOOKS, middleware=[pass_through])
    worker.function("f", processes=1)(process_hooks.count_starts)
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("f") == ("WORK_EXCEPTION", b"KeyError: 'no database'")
        (notes / "fail").unlink()
        assert (await client.do("f"))[0] == "WORK_COMPLETE"


@pytest.mark.parametrize("package", [Worker, blocking.Worker], ids=["asyncio", "blocking"])
@pytest.mark.parametrize("name", ["on_process_start", "on_process_stop"])
def test_a_hook_that_cannot_run_in_a_process_is_rejected(package: Any, name: str) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match=f"{name} is a function, got 5"):
        package(**{name: 5})
    with pytest.raises(TypeError, match=f"{name} runs in processes, so it has to be a function that a module has"):
        package(**{name: lambda: None})
    with pytest.raises(TypeError, match=f"{name} is a plain function"):
        package(**{name: coroutine})


async def test_a_hook_that_cannot_be_pickled_is_rejected_when_the_worker_starts() -> None:
    worker = Worker(on_process_start=functools.partial(print, threading.Lock()))
    worker.function("f")(process_hooks.count_starts)
    with pytest.raises(TypeError, match="on_process_start runs in processes, so it has to be a function that a module"):
        await worker.run()


async def test_middleware_sees_the_same_in_every_executor() -> None:
    seen: dict[str, list[Any]] = {}

    async def record(job: WorkerJob, call: Any) -> str:
        try:
            outcome: Any = await call(job)
        except LookupError as error:
            outcome = str(error)
        seen.setdefault(job.function, []).append((type(outcome), outcome))
        return json.dumps(outcome, default=repr)

    async def coroutine(job: WorkerJob) -> Any:
        return process_hooks.answer(job)

    def awaitable(job: WorkerJob) -> Any:
        return coroutine(job)

    def generator(job: WorkerJob) -> Any:
        yield b"chunk"
        return process_hooks.answer(job)

    async with JobServer(port=0) as server:
        worker = Worker(server.address, middleware=[record])
        for function in (coroutine, awaitable, generator):
            worker.function(function.__name__)(function)
        worker.function("thread")(process_hooks.answer)
        worker.function("process", processes=1)(process_hooks.answer)
        async with working(worker), connected(server.address) as client:
            for function_name in worker.functions:
                for workload in (*process_hooks.ANSWERS, b"raise"):
                    await client.submit(function_name, workload)
                    assert (await client.updates())[-1][0] == "WORK_COMPLETE"
    expected = [(type(outcome), outcome) for outcome in (*process_hooks.ANSWERS.values(), "no such thing")]
    assert seen == dict.fromkeys(worker.functions, expected)
