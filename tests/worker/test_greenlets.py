"""
The calls of greenlets, here in threads: what they wait on works in both.

``tests/blocking/greenlet_workers.py`` runs workers under gevent's monkey patching.
"""

from __future__ import annotations

import sys
import threading

import pytest

from geartrain.worker import function_thread
from geartrain.worker.function_thread import FunctionThread
from geartrain.worker.greenlets import Greenlets


def test_calls_run_in_the_thread_that_serves() -> None:
    greenlets = Greenlets()
    ran: list[int] = []
    greenlets.execute(lambda: ran.append(threading.get_ident()))
    result = greenlets.submit(divmod, 7, 2)
    greenlets.execute(greenlets.close)
    greenlets.serve()
    assert ran == [threading.get_ident()]
    assert result.result(0) == (3, 1)


def test_an_interrupt_ends_serving_until_it_is_called_again() -> None:
    greenlets = Greenlets()
    ran: list[str] = []
    greenlets.execute(sys.exit)
    greenlets.execute(lambda: ran.append("after"))
    greenlets.close()
    with pytest.raises(SystemExit):
        greenlets.serve()
    assert not ran
    greenlets.serve()
    assert ran == ["after"]


def test_started_ones_run_calls_at_the_same_time_and_pass_on_an_interrupt() -> None:
    greenlets = Greenlets(started=2)
    together = threading.Barrier(2)
    results = [greenlets.submit(together.wait, 5) for _ in range(2)]

    def interrupt() -> None:
        for result in results:
            result.result(5)
        raise KeyboardInterrupt

    greenlets.execute(interrupt)
    with pytest.raises(KeyboardInterrupt):
        greenlets.serve()
    greenlets.close()
    greenlets.serve()
    assert sorted(result.result() for result in results) == [0, 1]


def test_a_function_thread_runs_functions_in_greenlets_only_where_threads_are_greenlets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="need gevent's monkey patching, got greenlets=3"):
        FunctionThread(greenlets=3)
    monkeypatch.setattr(function_thread, "is_patched", lambda: True)
    assert FunctionThread(greenlets=3).concurrency == 3
    assert FunctionThread().concurrency == 1
