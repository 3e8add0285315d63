from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from geartrain.worker.thread_pool import DaemonThreadPool
from tests.support.wire import wait_until


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
