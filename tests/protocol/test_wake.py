from __future__ import annotations

from geartrain.protocol.wake import WakeGuard


def pauses(rounds: int, *, slept: float = 0.0) -> list[float]:
    """Fall asleep and be woken in vain, again and again; return how long each grab was to wait."""
    guard, now, found = WakeGuard(), 100.0, []
    for _ in range(rounds):
        guard.slept(now)
        now += slept
        grab_after = guard.woken(now)
        found.append(round(grab_after - now, 6))
        now = grab_after
        guard.answered(job=False)
    return found


def test_a_few_wakes_in_vain_cost_no_pause_and_then_the_pause_grows_to_its_limit() -> None:
    assert pauses(10) == [0, 0, 0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]


def test_a_worker_that_slept_for_a_while_is_not_held_back() -> None:
    assert pauses(10, slept=0.2) == [0] * 10


def test_a_job_ends_the_pauses() -> None:
    guard = WakeGuard()
    for _ in range(5):
        guard.slept(1.0)
        guard.woken(1.0)
        guard.answered(job=False)
    guard.answered(job=True)
    guard.slept(1.0)
    assert guard.woken(1.0) == 1.0


def test_an_empty_answer_that_no_wake_led_to_is_not_in_vain() -> None:
    guard = WakeGuard()
    for _ in range(100):  # a worker that asks from time to time, of its own accord
        guard.answered(job=False)
        guard.slept(1.0)
    assert guard.woken(1.0) == 1.0


def test_only_the_first_empty_answer_after_a_wake_is_in_vain() -> None:
    guard = WakeGuard()
    guard.slept(1.0)
    guard.woken(1.0)
    for _ in range(100):
        guard.answered(job=False)
    guard.slept(1.0)
    assert guard.woken(1.0) == 1.0


def test_a_million_wakes_in_vain_do_not_overflow() -> None:
    guard = WakeGuard()
    for _ in range(100_000):
        guard.slept(1.0)
        guard.woken(1.0)
        guard.answered(job=False)
    assert guard.woken(1.0) == 1.25
