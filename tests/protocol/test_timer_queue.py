from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol import timer_queue
from geartrain.protocol.timer_queue import TimerQueue


def count_entries(timers: TimerQueue[Any]) -> int:
    """Return the number of entries, including those of cancelled keys."""
    return len(timers._heap) + len(timers._old)


def test_a_key_has_only_one_time() -> None:
    timers: TimerQueue[str] = TimerQueue()
    timers.set("a", 1)
    timers.set("b", 2)
    timers.set("a", 3)
    assert timers.next == 2
    assert timers.take_due(2, 1000) == ["b"]
    assert timers.take_due(3, 1000) == ["a"]
    assert timers.next is None


def test_keys_of_equal_times_are_due_in_the_order_in_which_they_were_set() -> None:
    timers: TimerQueue[str] = TimerQueue()
    for key in "cab":
        timers.set(key, 1)
    assert timers.take_due(1, 1000) == ["c", "a", "b"]


def test_a_cancelled_key_is_never_due() -> None:
    timers: TimerQueue[str] = TimerQueue()
    timers.set("a", 1)
    timers.cancel("a")
    timers.cancel("never set")
    assert timers.next is None
    assert timers.take_due(9, 1000) == []


def test_cancelled_keys_take_no_memory() -> None:
    timers: TimerQueue[int] = TimerQueue()
    timers.set(-1, 1)
    for number in range(10_000):
        timers.set(number, 1000 + number)
        timers.cancel(number)
        assert count_entries(timers) < 100
    assert timers.next == 1


def test_setting_a_key_repeatedly_takes_no_memory() -> None:
    timers: TimerQueue[str] = TimerQueue()
    for number in range(10_000):
        timers.set("a", 10_000 - number)
        assert count_entries(timers) < 200
    assert timers.take_due(10_000, 1000) == ["a"]


def test_cancelling_many_keys_frees_their_memory() -> None:
    """Their entries are removed a few at a time, not all at once."""
    timers: TimerQueue[int] = TimerQueue()
    timers.set(-1, 1)
    for number in range(10_000):
        timers.set(number, 1000 + number)
    left = [10_001]
    for number in range(10_000):
        timers.cancel(number)
        left.append(count_entries(timers))
    assert left[-1] < 200
    assert max(before - after for before, after in itertools.pairwise(left)) <= 10
    assert timers.take_due(1, 1000) == [-1]


def test_many_cancelled_keys_that_would_be_due_are_skipped_in_several_steps() -> None:
    timers: TimerQueue[int] = TimerQueue()
    for number in range(5_000):
        timers.set(number, 1)
    for number in range(5_000, 10_100):
        timers.set(number, 2)
    for number in range(5_000):
        timers.cancel(number)
    assert timers.next == 1
    due: list[int] = []
    steps = 0
    while (when := timers.next) is not None and when <= 2:
        due += timers.take_due(2, 500)
        steps += 1
    assert due == list(range(5_000, 10_100))
    assert steps > 10


def test_the_earliest_key_is_found_while_entries_move_to_another_heap() -> None:
    timers: TimerQueue[int] = TimerQueue()
    timers.set(-1, 1)
    for number in range(100):
        timers.set(number, 1000 + number)
    for number in range(90):
        timers.cancel(number)
    assert timers._heap
    assert timers._old
    assert timers.next == 1
    assert timers.take_due(1, 1000) == [-1]
    assert timers.take_due(2000, 1000) == list(range(90, 100))


@pytest.mark.parametrize(("spare", "moves"), [(64, 4), (0, 1)])
@given(
    steps=st.lists(st.tuples(st.sampled_from(["set", "cancel", "take"]), st.integers(0, 20), st.integers(0, 20))),
    limit=st.integers(1, 30),
)
def test_the_queue_behaves_like_a_plain_dictionary(
    spare: int, moves: int, steps: list[tuple[str, int, int]], limit: int
) -> None:
    """With a small ``_SPARE`` it moves entries from one heap to the other most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timer_queue, "_SPARE", spare)
        patch.setattr(timer_queue, "_MOVES", moves)
        compare_with_dictionary(steps, limit)


def compare_with_dictionary(steps: list[tuple[str, int, int]], limit: int) -> None:
    timers: TimerQueue[int] = TimerQueue()
    plain: dict[int, int] = {}
    for what, key, time in steps:
        if what == "set":
            timers.set(key, time)
            plain[key] = time
        elif what == "cancel":
            timers.cancel(key)
            plain.pop(key, None)
        else:
            expected = sorted(when for when in plain.values() if when <= time)
            taken: list[int] = []
            while (due := timers.next) is not None and due <= time:
                some = timers.take_due(time, limit)
                assert len(some) <= limit
                taken += some
            assert [plain.pop(key) for key in taken] == expected
        assert len(timers) == len(plain)
        assert timers.next == min(plain.values(), default=None)
