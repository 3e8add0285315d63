"""Fixtures of the simulation tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def simulation_untraced(untraced: None) -> None:
    """Measure no coverage in the simulation."""
