"""A structure for many deadlines."""

from __future__ import annotations

from typing import TypeVar
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.client.deadlines import Deadlines

K = TypeVar("K")


def make_deadlines(_: type[K]) -> Deadlines[K]:
    """Create deadlines without callbacks."""
    return Deadlines(lambda _: None, lambda: None)


def test_no_key_expires_before_its_deadline() -> None:
    deadlines = make_deadlines(str)
    assert len(deadlines) == 0
    assert deadlines.next_due is None
    deadlines.add("job", 5.0, 15.0)
    assert len(deadlines) == 1
    assert deadlines
    assert deadlines.next_due == 15.0
    assert deadlines.expire(14.9) == []
    assert deadlines.expire(15.0) == ["job"]
    assert len(deadlines) == 0


def test_a_removed_key_never_expires() -> None:
    deadlines = make_deadlines(str)
    deadlines.add("a", 5.0, 5.0)
    deadlines.add("b", 5.0, 6.0)
    deadlines.remove("a", 5.0)
    deadlines.remove("a", 5.0)
    deadlines.remove("unknown", 7.0)
    assert deadlines.expire(100.0) == ["b"]


def test_each_duration_expires_at_its_own_deadline() -> None:
    deadlines = make_deadlines(str)
    deadlines.add("slow", 10.0, 10.0)
    deadlines.add("quick", 1.0, 3.0)
    assert deadlines.next_due == 3.0
    assert deadlines.expire(3.0) == ["quick"]
    assert deadlines.next_due == 10.0


def test_the_first_deadline_of_a_reused_duration_is_announced() -> None:
    announced: list[float] = []
    deadlines: Deadlines[str] = Deadlines(announced.append, lambda: None)
    deadlines.add("other", 100.0, 100.0)
    deadlines.add("first", 5.0, 5.0)
    deadlines.add("second", 5.0, 6.0)
    deadlines.remove("first", 5.0)
    deadlines.remove("second", 5.0)
    deadlines.add("third", 5.0, 9.0)
    assert announced == [100.0, 5.0, 9.0]


@pytest.mark.parametrize("durations", [1, 1000])
def test_no_queue_is_kept_when_all_keys_are_removed(durations: int) -> None:
    """An application may give each job its remaining time as the timeout, so each job has a different duration."""
    deadlines = make_deadlines(int)
    for key in range(1000):
        deadlines.add(key, float(key % durations), float(key % durations))
    for key in range(1000):
        deadlines.remove(key, float(key % durations))
    assert not deadlines._queues
    assert not deadlines._heap
    assert deadlines.next_due is None


def test_unused_durations_do_not_accumulate_while_a_deadline_is_pending() -> None:
    """If each job has a different duration, one long deadline must not keep the queues of all others."""
    deadlines = make_deadlines(int)
    deadlines.add(-1, 3600.0, 3600.0)
    for key in range(10_000):
        deadlines.add(key, 100.0 + key, 100.0 + key)
        deadlines.remove(key, 100.0 + key)
    assert len(deadlines._queues) < 200
    assert len(deadlines._heap) < 200
    assert deadlines.expire(3600.0) == [-1]
    assert not deadlines._queues
    assert not deadlines._heap


Steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "expire"]), st.integers(0, 5), st.sampled_from([1.0, 2.0, 5.0])),
    max_size=60,
)


@given(Steps)
def test_it_behaves_like_a_plain_dict_of_deadlines(steps: list[tuple[str, int, float]]) -> None:
    with patch("geartrain.client.deadlines._KEPT", 0):
        compare_with_a_dict(steps)


def compare_with_a_dict(steps: list[tuple[str, int, float]]) -> None:
    announced: list[float] = []  # cleared when no deadline is left
    deadlines: Deadlines[tuple[int, float]] = Deadlines(announced.append, announced.clear)
    model: dict[tuple[int, float], float] = {}
    now = 0.0
    for step, key, duration in steps:
        if step == "add" and (key, duration) not in model:
            deadlines.add((key, duration), duration, now + duration)
            model[key, duration] = now + duration
        elif step == "remove":
            deadlines.remove((key, duration), duration)
            model.pop((key, duration), None)
        elif step == "expire":
            now += duration
            due = {pair for pair, deadline in model.items() if deadline <= now}
            expired: list[tuple[int, float]] = []
            while batch := deadlines.expire(now, at_most=2):
                assert len(batch) <= 2
                expired += batch
            assert len(expired) == len(due)
            assert set(expired) == due
            for pair in due:
                del model[pair]
        assert len(deadlines) == len(model)
        assert bool(deadlines) == bool(model)
        assert (deadlines.next_due is not None) >= bool(model)
        assert deadlines._empty == sum(not queue for queue in deadlines._queues.values())
        next_due = deadlines.next_due
        assert not model or min(announced) <= min(model.values()), (
            "a timer set for the announced deadlines is never late"
        )
        assert (next_due is not None and next_due <= min(model.values())) if model else next_due is None
