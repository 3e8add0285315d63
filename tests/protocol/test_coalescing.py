"""Merged submissions, without the connection that they share."""

from __future__ import annotations

from typing import Any

from geartrain.protocol.coalescing import CoalescedJobs


class Incomparable:
    """A submission that must not be compared with others."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a submission was compared with others")


def test_copy_k_belongs_to_submission_k_and_a_terminal_one_ends_the_first() -> None:
    first, second, third = owners = [object() for _ in range(3)]
    merged = CoalescedJobs(*owners[:2])  # type: ignore[arg-type]  # their methods are not called
    assert [merged.next() for _ in range(4)] == [first, second, first, second]
    merged.add(third)  # type: ignore[arg-type]
    assert list(merged) == owners
    assert [merged.end_first(), merged.next(), merged.next(), merged.next()] == [first, second, third, second]
    assert [merged.end_first(), merged.next(), merged.end_first()] == [second, third, third]
    assert not len(merged)


def test_one_handler_may_replace_several_and_be_merged_itself() -> None:
    first, second, replacement = owners = [object() for _ in range(3)]
    merged = CoalescedJobs(*owners)  # type: ignore[arg-type]
    merged.replace(first, replacement)  # type: ignore[arg-type]
    merged.replace(second, replacement)  # type: ignore[arg-type]
    assert [merged.end_first() for _ in range(3)] == [replacement] * 3


def test_replacing_a_submission_does_not_search_the_others() -> None:
    """Otherwise cancelling all of them would take quadratic time."""
    owners: list[Any] = [Incomparable() for _ in range(200)]
    replacement: Any = Incomparable()
    merged = CoalescedJobs(*owners)
    assert merged.end_first() is owners[0]
    for owner in reversed(owners[2:]):
        merged.replace(owner, replacement)
    ended = [merged.end_first() for _ in owners[1:]]
    assert ended[0] is owners[1]
    assert all(owner is replacement for owner in ended[1:])
