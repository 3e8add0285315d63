"""What the tests of the simulation share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Count no coverage: it makes these tests three times as slow, and what they reach, the others reach as well."""
    trace = sys.gettrace()
    if type(trace).__module__ == "coverage":  # and not a debugger
        sys.settrace(None)
    yield
    sys.settrace(trace)
