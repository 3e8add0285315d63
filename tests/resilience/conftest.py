"""Fixtures of the resilience tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def resilience_untraced(untraced: None) -> None:
    """Measure no coverage: these tests move many bytes, and the unit tests cover the same code."""
