"""The simulation finds each of the faults that are added on purpose."""

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
    """The simulation must detect faults, not mere changes: this one has no effect."""
    harmless = Mutant(
        "a retry as before",
        "geartrain.client.submission",
        "        if self.tries > self.spec.options.retry_count or",
        "        if not self.tries <= self.spec.options.retry_count or",
        seeds=10,
    )
    with mutated(harmless):
        assert not any(is_found(seed) for seed in range(harmless.seeds))


def is_found(seed: int) -> bool:
    """Whether a run of the world, with faults or without, breaks a promise."""
    for faults in (False, True):
        try:
            World(seed, faults=faults).run()
        except Exception:  # noqa: BLE001  # any exception means that it was detected
            return True
    return False
