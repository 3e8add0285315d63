from __future__ import annotations

from geartrain.protocol.wakeup_throttle import WakeupThrottle


def pauses(rounds: int, *, slept: float = 0.0) -> list[float]:
    """Sleep and be woken without getting a job, ``rounds`` times; return the delay of each grab."""
    throttle, now, found = WakeupThrottle(), 100.0, []
    for _ in range(rounds):
        throttle.on_sleep(now)
        now += slept
        grab_after = throttle.on_wakeup(now)
        found.append(round(grab_after - now, 6))
        now = grab_after
        throttle.on_reply(job=False)
    return found


def test_after_a_few_useless_wakeups_the_pause_grows_to_its_limit() -> None:
    assert pauses(10) == [0, 0, 0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]


def test_a_worker_that_slept_for_a_while_is_not_delayed() -> None:
    assert pauses(10, slept=0.2) == [0] * 10


def test_a_job_ends_the_pauses() -> None:
    throttle = WakeupThrottle()
    for _ in range(5):
        throttle.on_sleep(1.0)
        throttle.on_wakeup(1.0)
        throttle.on_reply(job=False)
    throttle.on_reply(job=True)
    throttle.on_sleep(1.0)
    assert throttle.on_wakeup(1.0) == 1.0


def test_an_empty_reply_without_a_wakeup_is_not_counted() -> None:
    throttle = WakeupThrottle()
    for _ in range(100):  # a worker that polls from time to time
        throttle.on_reply(job=False)
        throttle.on_sleep(1.0)
    assert throttle.on_wakeup(1.0) == 1.0


def test_only_the_first_empty_reply_after_a_wakeup_is_counted() -> None:
    throttle = WakeupThrottle()
    throttle.on_sleep(1.0)
    throttle.on_wakeup(1.0)
    for _ in range(100):
        throttle.on_reply(job=False)
    throttle.on_sleep(1.0)
    assert throttle.on_wakeup(1.0) == 1.0


def test_many_useless_wakeups_do_not_overflow() -> None:
    throttle = WakeupThrottle()
    for _ in range(100_000):
        throttle.on_sleep(1.0)
        throttle.on_wakeup(1.0)
        throttle.on_reply(job=False)
    assert throttle.on_wakeup(1.0) == 1.25
