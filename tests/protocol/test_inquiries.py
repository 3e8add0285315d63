"""Inquiries after silent jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from geartrain.protocol.inquiries import Inquiries, Inquiry

if TYPE_CHECKING:
    from geartrain.protocol.coalescing import CoalescedJobs
    from geartrain.protocol.handlers import JobHandler, QueryHandler
    from geartrain.protocol.packets import PacketType


def test_where_more_are_silent_than_may_be_asked_after_each_has_its_turn() -> None:
    asked: list[bytes] = []

    def answer(query: QueryHandler, _: PacketType) -> None:
        assert isinstance(query, Inquiry)
        asked.append(query.asked)
        query.on_reply([query.asked, b"1"])

    jobs = cast("dict[bytes, JobHandler | CoalescedJobs]", {b"%d" % number: object() for number in range(10)})
    inquiries = Inquiries(jobs, answer)
    while len(asked) < 20:
        inquiries.turn(at_most=1, at_once=1)
    assert asked == [b"%d" % number for number in range(10)] * 2
