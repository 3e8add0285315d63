from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

import pytest

from geartrain.worker.thread_pool import DaemonThreadPool
from tests.support.eventually import wait_until


def count_threads() -> int:
    return sum(thread.name.startswith("geartrain-worker") for thread in threading.enumerate())


def test_threads_are_reused_and_started_only_as_needed() -> None:
    threads = DaemonThreadPool(3)
    seen = set()
    for number in range(20):
        assert threads.submit(divmod, number, 7).result(5) == divmod(number, 7)
        wait_until(lambda: not threads.unfinished)  # it waits for the next
        seen.add(count_threads())
    assert seen == {1}
    threads.close()
    wait_until(lambda: not count_threads())


def test_calls_run_concurrently_and_the_others_are_queued() -> None:
    threads = DaemonThreadPool(3)
    together = threading.Barrier(3)
    calls = [threads.submit(together.wait, 5) for _ in range(6)]
    assert sorted(call.result(5) for call in calls) == [0, 0, 1, 1, 2, 2]
    assert count_threads() == 3
    threads.close()
    wait_until(lambda: not count_threads())


def test_an_exception_is_raised_in_the_waiter_and_the_thread_continues() -> None:
    threads = DaemonThreadPool(1)
    for error in (ValueError, SystemExit):

        def call(error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            threads.submit(call).result(5)
    assert threads.submit(str, 1).result(5) == "1"
    threads.close()


def test_a_cancelled_call_is_not_run() -> None:
    threads = DaemonThreadPool(1)
    go_on = threading.Event()
    ran: list[str] = []
    first: Future[bool] = threads.submit(go_on.wait, 5)
    second = threads.submit(ran.append, "cancelled")
    third = threads.submit(ran.append, "third")
    assert second.cancel()
    go_on.set()
    assert first.result(5)
    third.result(5)
    assert ran == ["third"]
    threads.close()


class QueueReader:
    """Reads calls from a queue and passes them to the pool."""

    def __init__(self, threads: DaemonThreadPool) -> None:
        self.threads = threads
        self.arrivals: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.closed = threading.Event()
        self.readers: list[int] = []

    def read(self) -> None:
        call = self.arrivals.get()
        if call is not None:
            self.readers.append(threading.get_ident())
            self.threads.execute(call)

    def wake(self) -> None:
        self.arrivals.put(None)

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("max_threads", [1, 3])
def test_a_thread_that_reads_a_call_runs_it(max_threads: int) -> None:
    threads = DaemonThreadPool(max_threads)
    reader = QueueReader(threads)
    threads.start_reading(reader)
    ran: SimpleQueue[int] = SimpleQueue()
    for _ in range(20):
        reader.arrivals.put(lambda: ran.put(threading.get_ident()))
        assert ran.get(timeout=5) == reader.readers[-1]
    threads.close()
    assert reader.closed.wait(5)


def test_a_thread_that_exists_already_can_read_and_run_all_calls() -> None:
    threads = DaemonThreadPool(1, provided=1)
    reader = QueueReader(threads)
    ran = []

    def run() -> None:
        ran.append(threading.get_ident())
        if len(ran) == 2:
            threads.close()

    reader.arrivals.put(run)
    reader.arrivals.put(run)
    threads.start_reading(reader)
    threads.serve()
    assert ran == [threading.get_ident()] * 2
    assert reader.closed.is_set()


def test_another_thread_reads_while_a_call_runs() -> None:
    threads = DaemonThreadPool(3)
    reader = QueueReader(threads)
    threads.start_reading(reader)
    together = threading.Barrier(4)
    for _ in range(3):
        reader.arrivals.put(lambda: together.wait(5))
    together.wait(5)
    assert len(set(reader.readers)) == 3
    threads.close()
    assert reader.closed.wait(5)


def test_the_only_thread_stops_reading_to_run_a_call_from_elsewhere() -> None:
    threads = DaemonThreadPool(1)
    threads.start_reading(QueueReader(threads))
    for number in range(100):
        assert threads.submit(divmod, number, 7).result(5) == divmod(number, 7)
    threads.close()


def test_several_calls_read_at_once_all_run() -> None:
    threads = DaemonThreadPool(2)
    reader = QueueReader(threads)
    threads.start_reading(reader)
    done = [threading.Event() for _ in range(10)]
    reader.arrivals.put(lambda: None)

    def execute_all() -> None:
        for event in done:
            threads.execute(event.set)

    reader.arrivals.put(execute_all)
    assert all(event.wait(5) for event in done)
    threads.close()


def test_what_a_call_raises_goes_to_the_excepthook_and_the_thread_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: SimpleQueue[type[BaseException]] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.put(arguments.exc_type))
    threads = DaemonThreadPool(1)
    threads.execute(lambda: 1 / 0)
    assert raised.get(timeout=5) is ZeroDivisionError
    assert threads.submit(str, 1).result(5) == "1"
    threads.close()


def test_if_no_more_threads_can_be_started_the_others_run_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = DaemonThreadPool(3)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(str, 1)
    first = threads.submit(str, 2)
    assert first.result(5) == "2"
    monkeypatch.setattr(threading.Thread, "start", refuse)
    calls = [threads.submit(str, number) for number in range(10)]
    assert [call.result(5) for call in calls] == [str(number) for number in range(10)]
    monkeypatch.setattr(threading.Thread, "start", start)
    threads.close()
