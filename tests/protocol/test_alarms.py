"""What is due when."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol import alarms as alarms_module
from geartrain.protocol.alarms import Alarms


def test_a_key_has_one_time_only() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("a", 1)
    alarms.set("b", 2)
    alarms.set("a", 3)
    assert alarms.next == 2
    assert alarms.take_due(2, 1000) == ["b"]
    assert alarms.take_due(3, 1000) == ["a"]
    assert alarms.next is None


def test_keys_of_one_time_are_due_in_the_order_in_which_they_were_set() -> None:
    alarms: Alarms[str] = Alarms()
    for key in "cab":
        alarms.set(key, 1)
    assert alarms.take_due(1, 1000) == ["c", "a", "b"]


def test_a_cancelled_key_is_never_due() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("a", 1)
    alarms.cancel("a")
    alarms.cancel("never set")
    assert alarms.next is None
    assert alarms.take_due(9, 1000) == []


def test_keys_that_were_set_and_cancelled_take_no_memory() -> None:
    alarms: Alarms[int] = Alarms()
    alarms.set(-1, 1)
    for number in range(10_000):
        alarms.set(number, 1000 + number)
        alarms.cancel(number)
        assert len(alarms._heap) < 100
    assert alarms.next == 1


def test_a_key_that_is_set_again_and_again_takes_no_memory() -> None:
    alarms: Alarms[str] = Alarms()
    for number in range(10_000):
        alarms.set("a", 10_000 - number)
        assert len(alarms._heap) + len(alarms._old) < 200
    assert alarms.take_due(10_000, 1000) == ["a"]


def test_many_keys_that_are_cancelled_take_no_memory() -> None:
    """Their entries are removed a few at a time, not all at once."""
    alarms: Alarms[int] = Alarms()
    alarms.set(-1, 1)
    for number in range(10_000):
        alarms.set(number, 1000 + number)
    left = [10_001]
    for number in range(10_000):
        alarms.cancel(number)
        left.append(len(alarms._heap) + len(alarms._old))
    assert left[-1] < 200
    assert max(before - after for before, after in itertools.pairwise(left)) <= 10
    assert alarms.take_due(1, 1000) == [-1]


def test_many_cancelled_keys_that_would_be_due_are_passed_in_several_steps() -> None:
    alarms: Alarms[int] = Alarms()
    for number in range(5_000):
        alarms.set(number, 1)
    for number in range(5_000, 10_100):
        alarms.set(number, 2)
    for number in range(5_000):
        alarms.cancel(number)
    assert alarms.next == 1
    due: list[int] = []
    steps = 0
    while (when := alarms.next) is not None and when <= 2:
        due += alarms.take_due(2, 500)
        steps += 1
    assert due == list(range(5_000, 10_100))
    assert steps > 10


def test_the_earliest_key_is_found_while_entries_move_to_another_heap() -> None:
    alarms: Alarms[int] = Alarms()
    alarms.set(-1, 1)
    for number in range(100):
        alarms.set(number, 1000 + number)
    for number in range(90):
        alarms.cancel(number)
    assert alarms._heap
    assert alarms._old
    assert alarms.next == 1
    assert alarms.take_due(1, 1000) == [-1]
    assert alarms.take_due(2000, 1000) == list(range(90, 100))


@pytest.mark.parametrize(("spare", "moves"), [(64, 4), (0, 1)])
@given(
    steps=st.lists(st.tuples(st.sampled_from(["set", "cancel", "take"]), st.integers(0, 20), st.integers(0, 20))),
    limit=st.integers(1, 30),
)
def test_it_does_what_a_plain_dictionary_does(
    spare: int, moves: int, steps: list[tuple[str, int, int]], limit: int
) -> None:
    """With little to spare it moves entries from one heap to another most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alarms_module, "_SPARE", spare)
        patch.setattr(alarms_module, "_MOVES", moves)
        compare_with_dictionary(steps, limit)


def compare_with_dictionary(steps: list[tuple[str, int, int]], limit: int) -> None:
    alarms: Alarms[int] = Alarms()
    plain: dict[int, int] = {}
    for what, key, time in steps:
        if what == "set":
            alarms.set(key, time)
            plain[key] = time
        elif what == "cancel":
            alarms.cancel(key)
            plain.pop(key, None)
        else:
            expected = sorted(when for when in plain.values() if when <= time)
            taken: list[int] = []
            while (due := alarms.next) is not None and due <= time:
                some = alarms.take_due(time, limit)
                assert len(some) <= limit
                taken += some
            assert [plain.pop(key) for key in taken] == expected
        assert len(alarms) == len(plain)
        assert alarms.next == min(plain.values(), default=None)
