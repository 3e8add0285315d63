"""The simulation finds faults: each of these is put in, and found."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, mutated
from tests.simulation.world import World


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_finds_a_fault(mutant: Mutant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with mutated(mutant):
        seeds = (mutant.seed, *range(mutant.seeds))
        assert any(is_found(seed) for seed in seeds), f"{mutant.name}: not found in {mutant.seeds} seeds"


def test_a_harmless_change_is_not_reported() -> None:
    """It is the fault that is found, not that code was changed: here it was, and means the same."""
    harmless = Mutant(
        "a retry as before",
        "geartrain.client.submission",
        "        if self.tries > self.spec.options.retry_count or",
        "        if not self.tries <= self.spec.options.retry_count or",
        seeds=20,
    )
    with mutated(harmless):
        assert not any(is_found(seed) for seed in range(harmless.seeds))


def is_found(seed: int) -> bool:
    """Whether a run of the world, with faults or without, breaks a promise."""
    for faults in (False, True):
        try:
            World(seed, faults=faults).run()
        except Exception:  # noqa: BLE001  # whatever it is, it was noticed
            return True
    return False
