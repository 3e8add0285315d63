"""How long a retry looks for a job server."""

from __future__ import annotations

import itertools

import pytest

from geartrain.client.submission_details import SubmissionDetails


def second_try() -> SubmissionDetails:
    """Return the details of a job in its second try, the first one that looks for a job server repeatedly."""
    details = SubmissionDetails()
    details.begin_try()
    return details


def rounds(details: SubmissionDetails, *, begin: float, dead_time: float) -> list[float]:
    """Return the times at which a try looks for a job server until it fails, when none is available."""
    times = [begin]
    while (wait := details.next_round(times[-1], dead_time)) is not None:
        times.append(times[-1] + wait)
    return times


def test_the_waits_between_rounds_grow_until_the_dead_time_is_over() -> None:
    times = rounds(second_try(), begin=1000.0, dead_time=10.0)
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert times[-1] == pytest.approx(1010.0, abs=0.1)
    assert 6 <= len(waits) <= 9
    # The upper half of each wait is random, so it may grow only a little.
    assert 0.1 <= waits[0] <= 0.2
    assert all(before <= after for before, after in itertools.pairwise(waits[:-1]))


def test_a_later_try_starts_with_a_longer_wait_and_its_own_dead_time() -> None:
    details = second_try()
    assert rounds(details, begin=0.0, dead_time=1.0)[-1] == pytest.approx(1.0, abs=0.1)
    details.begin_try()
    times = rounds(details, begin=50.0, dead_time=1.0)
    assert 0.2 <= times[1] - times[0] <= 0.4
    assert times[-1] == pytest.approx(51.0, abs=0.1)


@pytest.mark.parametrize("dead_time", [1e-9, 0.001, 1.0, 10.0])
@pytest.mark.parametrize("begin", [0.0, 1e9])
def test_rounds_never_follow_each_other_immediately(dead_time: float, begin: float) -> None:
    """Otherwise a clock with a coarse resolution would start rounds in a busy loop."""
    times = rounds(second_try(), begin=begin, dead_time=dead_time)
    assert all(after - before >= 0.05 for before, after in itertools.pairwise(times))


def test_each_round_tries_all_job_servers_again() -> None:
    details = second_try()
    details.add_error("127.0.0.1:4730", ConnectionRefusedError())
    assert details.next_round(0.0, 10.0) is not None
    assert not details.errors
