"""What the tests of resilience share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def resilience_untraced(untraced: None) -> None:
    """Measure no coverage: the unit tests reach what these reach, and these move many bytes."""
