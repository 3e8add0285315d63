"""Clients, workers and job servers under every kind of fault, in virtual time."""

from __future__ import annotations

import pytest

from tests.simulation.world import World

SEEDS = 200


@pytest.mark.parametrize("block", range(0, SEEDS, 20))
def test_every_job_ends_once_whatever_goes_wrong(block: int) -> None:
    for seed in range(block, block + 20):
        world = World(seed)
        try:
            world.run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}\n" + "\n".join(world.history)) from error


@pytest.mark.parametrize("block", range(0, 40, 20))
def test_without_faults_every_job_runs_exactly_once(block: int) -> None:
    for seed in range(block, block + 20):
        World(seed, faults=False).run()


def test_a_seed_gives_the_same_history_again() -> None:
    first, second = World(7), World(7)
    first.run()
    second.run()
    assert first.history == second.history
