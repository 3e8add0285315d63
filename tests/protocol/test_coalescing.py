"""Submissions that were merged, apart from the connection that they share."""

from __future__ import annotations

from typing import Any

from geartrain.protocol.coalescing import CoalescedJobs


class Unlike:
    """A submission that is compared with no other one."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a submission was looked for among the others")


def test_copy_k_is_for_submission_k_and_a_terminal_one_ends_the_first() -> None:
    first, second, third = owners = [object() for _ in range(3)]
    merged = CoalescedJobs(*owners[:2])  # type: ignore[arg-type]  # nothing is told to them here
    assert [merged.next() for _ in range(4)] == [first, second, first, second]
    merged.add(third)  # type: ignore[arg-type]
    assert list(merged) == owners
    assert [merged.end_first(), merged.next(), merged.next(), merged.next()] == [first, second, third, second]
    assert [merged.end_first(), merged.next(), merged.end_first()] == [second, third, third]
    assert not len(merged)


def test_one_may_stand_in_for_several_and_be_merged_itself() -> None:
    first, second, stand_in = owners = [object() for _ in range(3)]
    merged = CoalescedJobs(*owners)  # type: ignore[arg-type]
    merged.replace(first, stand_in)  # type: ignore[arg-type]
    merged.replace(second, stand_in)  # type: ignore[arg-type]
    assert [merged.end_first() for _ in range(3)] == [stand_in] * 3


def test_none_of_many_is_looked_for_among_the_others() -> None:
    """Else to cancel them all would take a time that grows with the square of their number."""
    owners: list[Any] = [Unlike() for _ in range(200)]
    stand_in: Any = Unlike()
    merged = CoalescedJobs(*owners)
    assert merged.end_first() is owners[0]
    for owner in reversed(owners[2:]):
        merged.replace(owner, stand_in)
    ended = [merged.end_first() for _ in owners[1:]]
    assert ended[0] is owners[1]
    assert all(owner is stand_in for owner in ended[1:])
