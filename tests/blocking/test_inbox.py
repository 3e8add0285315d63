"""Calls of other threads in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from geartrain.blocking.inbox import Inbox
from tests.support.eventually import eventually

pytestmark = pytest.mark.loops("asyncio")

value: ContextVar[int] = ContextVar("value")


async def from_thread(inbox: Inbox, *calls: Callable[[], object]) -> None:
    """Put calls into an inbox in another thread."""

    def put() -> None:
        for number, call in enumerate(calls):
            context = copy_context()
            context.run(value.set, number)
            inbox.put(call, context)

    await asyncio.to_thread(put)


async def test_calls_are_made_in_order_and_in_their_context() -> None:
    with closing(Inbox(asyncio.get_running_loop())) as inbox:
        made: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        await from_thread(inbox, *(lambda name=name: made.put_nowait((name, value.get())) for name in "abc"))
        assert [await made.get() for _ in range(3)] == [("a", 0), ("b", 1), ("c", 2)]


async def test_a_call_that_raises_is_reported_and_does_not_affect_the_others() -> None:
    with closing(Inbox(asyncio.get_running_loop())) as inbox:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, report: reports.append(report))
        made = asyncio.Event()
        await from_thread(inbox, lambda: 1 / 0, made.set)
        await made.wait()
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


def test_calls_after_one_that_exits_are_made_later() -> None:
    loop = asyncio.new_event_loop()
    inbox = Inbox(loop)

    def leave() -> None:
        raise SystemExit

    inbox.put(leave, Context())
    inbox.put(loop.stop, Context())
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.run_forever()
    inbox.close()
    loop.close()


async def test_a_call_that_adds_itself_again_does_not_delay_other_events() -> None:
    with closing(Inbox(asyncio.get_running_loop())) as inbox:
        turns: list[int] = []

        def again() -> None:
            turns.append(1)
            if len(turns) < 1000:
                inbox.put(again, Context())

        inbox.put(again, Context())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(turns) < 10
        await eventually(lambda: len(turns) == 1000)


async def test_more_calls_than_wake_ups_fit_are_made() -> None:
    with closing(Inbox(asyncio.get_running_loop())) as inbox:
        made: list[int] = []
        for _ in range(5000):
            inbox.put(lambda: made.append(1), Context())
        await eventually(lambda: len(made) == 5000)


async def test_a_closed_inbox_accepts_no_calls() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    inbox.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        inbox.put(print, Context())


async def test_a_call_that_a_closed_inbox_has_refused_is_never_made() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    inbox.close()
    made: list[bool] = []
    with pytest.raises(OSError, match="Bad file descriptor"):
        inbox.put(lambda: made.append(True), Context())
    inbox.make_calls()
    assert made == []
