from __future__ import annotations

import asyncio
import threading

import pytest

from geartrain.worker.guard import Guard


async def test_deferred_calls_run_in_order_once_the_lock_is_released() -> None:
    guard = Guard()
    order: list[str] = []
    with guard:
        guard.deferred.append(lambda: order.append("first"))
        guard.deferred.append(lambda: order.append("second"))
        order.append("under the lock")
    assert order == ["under the lock", "first", "second"]


async def test_deferred_calls_run_when_the_block_raises() -> None:
    guard = Guard()
    ran: list[bool] = []
    with pytest.raises(ValueError, match="a reason"), guard:
        guard.deferred.append(lambda: ran.append(True))
        raise ValueError("a reason")
    assert ran == [True]


async def test_the_lock_is_free_while_deferred_calls_run() -> None:
    guard = Guard()
    taken: list[bool] = []

    def take() -> None:
        taken.append(guard.lock.acquire(timeout=5))
        guard.lock.release()

    def take_in_thread() -> None:
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    with guard:
        guard.deferred.append(take_in_thread)
    assert taken == [True]


async def test_calls_deferred_by_a_thread_run_in_the_event_loop() -> None:
    guard = Guard()
    done = asyncio.Event()
    seen: list[int] = []

    def note() -> None:
        seen.append(threading.get_ident())
        done.set()

    def run() -> None:
        with guard:
            guard.deferred.append(note)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    await asyncio.wait_for(done.wait(), 5)
    assert seen == [threading.get_ident()]


def test_calls_deferred_after_the_event_loop_has_ended_are_not_run() -> None:
    async def make() -> Guard:
        return Guard()

    guard = asyncio.run(make())

    def run() -> None:
        with guard:
            guard.deferred.append(lambda: pytest.fail("it ran"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def test_a_deferred_call_that_raises_keeps_no_other_from_running() -> None:
    guard = Guard()
    ran: list[bool] = []
    raised: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    with guard:
        guard.deferred.append(lambda: 1 / 0)
        guard.deferred.append(lambda: ran.append(True))
    assert ran == [True]
    assert [type(error) for error in raised] == [ZeroDivisionError]
