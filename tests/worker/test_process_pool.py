"""The pool of processes, with processes that the tests control."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from geartrain.worker import Worker, WorkerJob
from geartrain.worker.processes import pool as pool_module
from geartrain.worker.processes.pool import ProcessPool
from tests.worker import process_functions

WITHIN = 10.0  # seconds until a thread that is not released fails the test


class Process:
    """
    A fake process whose job ends when the process is killed or released. It stays reusable.

    Attributes:
        started: It runs a job.
        has_ended: The pool has ended it.
        dies_slowly: Its job continues for a while after it was killed.
    """

    def __init__(self) -> None:
        self.started = threading.Event()
        self.is_killed = False
        self.has_ended = False
        self.dies_slowly = False
        self.reusable = True
        self.ended = False
        self._released = threading.Event()

    def run(self, job: WorkerJob) -> bytes:
        self.started.set()
        assert self._released.wait(WITHIN)
        return b"done"

    def release(self) -> None:
        self._released.set()

    def kill(self) -> None:
        self.is_killed = True
        if not self.dies_slowly:
            self.release()

    def close_pipe(self) -> None:
        pass

    def end(self) -> None:
        self.has_ended = True


class ObservedCondition(threading.Condition):
    """
    A condition that shows when a thread waits for it.

    Attributes:
        awaited: Set by a thread that holds the lock, so whoever gets the lock after that finds the thread waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.awaited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.awaited.set()
        return super().wait(timeout)


class Bench:
    """A pool of one process, and threads that run jobs in it."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        worker = Worker()
        worker.function("f", processes=1)(process_functions.pid)
        self.pool = ProcessPool(worker._functions[b"f"], 1)
        self.condition = ObservedCondition()
        self.pool._changed = self.condition
        self._threads = threads

    def begin(self, job: WorkerJob) -> Future[object]:
        self.pool.add(job)
        return self._threads.submit(self.pool.run, job)

    def begin_waiting(self, job: WorkerJob) -> Future[object]:
        """Start a job, and return when it waits for a process."""
        future = self.begin(job)
        assert self.condition.awaited.wait(WITHIN)
        return future


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    process = Process()
    monkeypatch.setattr(pool_module, "WorkerProcess", lambda *_: process)
    yield process
    process.release()


@pytest.fixture
def bench(process: Process) -> Iterator[Bench]:
    with ThreadPoolExecutor(3) as threads:
        bench = Bench(threads)
        yield bench
        process.release()
        bench.pool.close()


def test_a_process_whose_job_ends_while_the_pool_is_closed_is_ended(bench: Bench, process: Process) -> None:
    running = bench.begin(Mock())
    assert process.started.wait(WITHIN)
    bench.pool.close()
    assert running.result(WITHIN) == b"done"
    assert process.is_killed
    assert process.has_ended


def test_closing_waits_for_processes_that_die_slowly(bench: Bench, process: Process) -> None:
    process.dies_slowly = True
    bench.begin(Mock())
    assert process.started.wait(WITHIN)
    closing = threading.Thread(target=bench.pool.close)
    closing.start()
    assert bench.condition.awaited.wait(WITHIN)
    assert process.is_killed
    assert not process.has_ended
    process.release()
    closing.join(WITHIN)
    assert process.has_ended


def test_an_idle_process_is_ended_when_the_pool_is_closed(bench: Bench, process: Process) -> None:
    process.release()
    assert bench.begin(Mock()).result(WITHIN) == b"done"
    assert not process.has_ended
    bench.pool.close()
    assert process.has_ended


def test_a_job_that_waits_for_a_process_is_released_when_it_is_cancelled(bench: Bench, process: Process) -> None:
    waiting_job = Mock()
    running = bench.begin(Mock())
    assert process.started.wait(WITHIN)
    waiting = bench.begin_waiting(waiting_job)
    bench.pool.cancel(waiting_job)
    with pytest.raises(ChildProcessError, match="cancelled before a process was free"):
        waiting.result(WITHIN)
    assert not running.done()


def test_a_job_that_is_cancelled_before_its_thread_has_begun_is_not_run(bench: Bench, process: Process) -> None:
    job = Mock()
    bench.pool.add(job)
    bench.pool.cancel(job)
    with pytest.raises(ChildProcessError, match="cancelled before a process was free"):
        bench.pool.run(job)
    assert not process.started.is_set()


def test_a_job_that_waits_for_a_process_gets_the_next_that_is_free(bench: Bench, process: Process) -> None:
    running = bench.begin(Mock())
    assert process.started.wait(WITHIN)
    waiting = bench.begin_waiting(Mock())
    process.release()
    assert running.result(WITHIN) == waiting.result(WITHIN) == b"done"


def test_a_job_that_waits_for_a_process_is_released_when_the_pool_is_closed(bench: Bench, process: Process) -> None:
    running = bench.begin(Mock())
    assert process.started.wait(WITHIN)
    waiting = bench.begin_waiting(Mock())
    bench.pool.close()
    assert running.result(WITHIN) == b"done"
    with pytest.raises(ChildProcessError):
        waiting.result(WITHIN)


def test_a_process_that_was_killed_when_its_job_had_just_ended_gets_no_other_job(
    bench: Bench, process: Process
) -> None:
    """It may take a while to die, and would end the next job with it."""
    job = Mock()
    running = bench.begin(job)
    assert process.started.wait(WITHIN)
    bench.pool.cancel(job)  # the fake returns its result all the same
    assert running.result(WITHIN) == b"done"
    assert process.has_ended


def test_a_process_that_replaces_one_that_has_ended_is_reported_as_a_restart(bench: Bench, process: Process) -> None:
    restarts: list[None] = []
    bench.pool._on_restart = lambda: restarts.append(None)
    process.release()
    assert bench.begin(Mock()).result(WITHIN) == b"done"
    process.reusable = False
    assert bench.begin(Mock()).result(WITHIN) == b"done"
    assert len(restarts) == 0, "the process has run both jobs"
    assert bench.begin(Mock()).result(WITHIN) == b"done"
    assert bench.begin(Mock()).result(WITHIN) == b"done"
    assert len(restarts) == 2
