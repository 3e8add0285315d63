from __future__ import annotations

import random

import pytest

from geartrain.backoff import Backoff, delay


def longest() -> float:
    return 1.0


def shortest() -> float:
    return 0.0


def test_the_wait_doubles_up_to_the_limit() -> None:
    backoff = Backoff(first=0.1, limit=10.0, rng=longest)
    assert [backoff.next() for _ in range(9)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])


def test_jitter_shortens_the_wait_by_at_most_half() -> None:
    assert delay(3, rng=shortest) == pytest.approx(0.2)
    rng = random.Random(4730).random
    waits = [delay(3, rng=rng) for _ in range(1000)]
    assert 0.2 <= min(waits) < 0.21
    assert 0.39 < max(waits) <= 0.4


def test_reset_starts_over() -> None:
    backoff = Backoff(rng=longest)
    waits = [backoff.next(), backoff.next()]
    backoff.reset()
    assert [backoff.next(), backoff.next()] == waits


@pytest.mark.parametrize("attempt", [-1, 0, 1])
def test_no_attempt_waits_less_than_the_first(attempt: int) -> None:
    assert delay(attempt, rng=longest) == pytest.approx(0.1)


def test_the_wait_has_a_limit_after_any_number_of_attempts() -> None:
    assert delay(10**9, rng=longest) == pytest.approx(10.0)


def test_two_peers_do_not_retry_at_the_same_times() -> None:
    one, other = Backoff(), Backoff()
    assert [one.next() for _ in range(5)] != [other.next() for _ in range(5)]
