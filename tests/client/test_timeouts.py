"""Deadlines of jobs and tries under one timer, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from geartrain.client.task_spec import TaskSpec
from geartrain.client.timeouts import JobTimeouts
from tests.simulation.loop import SimulatedLoop


class Timed:
    """A job with deadlines; a try that times out is restarted."""

    def __init__(self, timeouts: JobTimeouts, timeout: float | None = None, try_timeout: float | None = None) -> None:
        self.timeouts = timeouts
        self.spec = TaskSpec("f", {"timeout": timeout, "try_timeout": try_timeout})
        self.over_at: float | None = None
        self.tries = 1
        if timeout is not None:
            timeouts.start(self, timeout)
        if try_timeout is not None:
            timeouts.start_try(self, try_timeout)

    @property
    def has_ended(self) -> bool:
        return self.over_at is not None

    def on_timeout(self) -> None:
        self.over_at = asyncio.get_running_loop().time()
        self.timeouts.stop(self)

    def on_try_timeout(self) -> None:
        self.tries += 1
        self.timeouts.start_try(self, self.spec.options.try_timeout or 0.0)

    def on_back_off_end(self) -> None:
        raise AssertionError("no back-off was started")


def run(test: Any) -> None:
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(test(JobTimeouts(loop)))
        assert not loop.left(), "the timer must be cancelled with the last deadline"
    finally:
        loop.close()


def test_a_try_started_by_a_timeout_does_not_delay_earlier_deadlines() -> None:
    """The next try used to set the timer for itself, which delayed the deadlines before it."""

    async def test(timeouts: JobTimeouts) -> None:
        retried = Timed(timeouts, timeout=20.0, try_timeout=5.0)
        others = [Timed(timeouts, timeout=seconds) for seconds in (6.0, 7.0, 8.0)]
        await asyncio.sleep(30)
        assert [job.over_at for job in others] == [6.0, 7.0, 8.0]
        assert retried.over_at == 20.0
        assert retried.tries == 4

    run(test)


def test_an_earlier_deadline_moves_the_timer_forward() -> None:
    async def test(timeouts: JobTimeouts) -> None:
        late, soon = Timed(timeouts, timeout=10.0), Timed(timeouts, timeout=1.0)
        await asyncio.sleep(20)
        assert (late.over_at, soon.over_at) == (10.0, 1.0)

    run(test)


@pytest.mark.parametrize("after", ["ended", "expired", "cleared"])
@pytest.mark.parametrize("kind", ["timeout", "try_timeout"])
@pytest.mark.parametrize("seconds", [1.0, 5.0, 20.0])
def test_when_all_deadlines_are_gone_the_next_one_sets_the_timer(after: str, kind: str, seconds: float) -> None:
    """Its deadline is before, at or after the time that the timer was last set to."""

    async def test(timeouts: JobTimeouts) -> None:
        first = Timed(timeouts, **{kind: 5.0})
        if after == "expired":
            await asyncio.sleep(6)
        if after == "cleared" and kind == "try_timeout":
            timeouts.stop_all_tries()
        else:
            timeouts.stop(first)
        now = asyncio.get_running_loop().time()
        job = Timed(timeouts, timeout=seconds)
        await asyncio.sleep(30)
        assert job.over_at == now + seconds

    run(test)


def test_when_the_last_deadline_of_one_duration_is_gone_the_next_one_is_kept() -> None:
    async def test(timeouts: JobTimeouts) -> None:
        other = Timed(timeouts, timeout=100.0)
        for _ in range(3):
            timeouts.stop(Timed(timeouts, timeout=5.0))
            await asyncio.sleep(6)
            job = Timed(timeouts, timeout=5.0)
            begun_at = asyncio.get_running_loop().time()
            await asyncio.sleep(6)
            assert job.over_at == begun_at + 5.0
        await asyncio.sleep(100)
        assert other.over_at == 100.0

    run(test)
