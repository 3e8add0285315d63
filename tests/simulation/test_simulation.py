"""Clients, workers and job servers under every kind of fault, in virtual time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.seed_runner import Coverage, run
from tests.simulation.world import World
from tests.support.environment import without_coverage

ROOT = Path(__file__).parents[2]
SEEDS = 80
COVERED = 40

EVENTS = (
    "try: refused",
    "try: forgotten",
    "try: too large",
    "workload refused by the client",
    "probe",
    "full batch of probes",
    "writing paused: client",
    "writing paused: worker",
    "writing paused: server",
    "reading paused: client",
    "reading paused: server",
    "ends with ServerError",
    "ends with JobLostError",
    "ends with ConnectionLostError",
    "ends with NoServersError",
    "ends with JobTimeoutError",
    "ends with ClientDisconnectedError",
)


@pytest.mark.parametrize("block", range(0, SEEDS, 20))
def test_every_job_ends_once_whatever_fails(block: int) -> None:
    for seed in range(COVERED + block, COVERED + block + 20):
        world = World(seed)
        try:
            world.run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}\n" + "\n".join(world.history)) from error


@pytest.mark.parametrize("block", range(0, 30, 15))
def test_without_faults_every_job_runs_exactly_once(block: int) -> None:
    for seed in range(block, block + 15):
        World(seed, faults=False).run()


def test_all_interesting_events_occur() -> None:
    """Checks of an event that never occurs test nothing, so this fails if a change makes one disappear."""
    coverage = Coverage()
    for seed in range(COVERED):
        assert run(seed, coverage, faults=True) is None
    missing = [event for event in EVENTS if not coverage.runs_with[event]]
    assert not missing, f"in {COVERED} runs these never occurred: {missing}"


def test_a_seed_gives_the_same_history_again() -> None:
    first, second = World(7), World(7)
    first.run()
    second.run()
    assert first.history == second.history


def test_a_seed_gives_the_same_history_in_another_process_that_hashes_differently() -> None:
    """Sets are ordered differently there, and nothing may depend on their order."""
    command = [sys.executable, "-m", "tests.simulation", "--story", "7"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env={**without_coverage(), "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    first, second = [process.communicate(timeout=50)[0] for process in processes]
    assert first.count(b"\n") > 50, "the history is empty or too short"
    assert first == second
