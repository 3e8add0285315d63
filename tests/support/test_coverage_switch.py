from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tests.support.coverage_switch import CoverageSwitch


class Tracer:
    __module__ = "coverage"

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Trace nothing."""


pytestmark = pytest.mark.untraced


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the trace functions that a test sets."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "config")
    yield
    sys.settrace(None)
    threading.settrace(None)


def state() -> tuple[Any, Any, str | None]:
    return sys.gettrace(), threading.gettrace(), os.environ.get("COVERAGE_PROCESS_CONFIG")


def test_coverage_is_measured_only_inside_the_block() -> None:
    tracer = Tracer()
    threading.settrace(tracer)
    sys.settrace(tracer)
    switch = CoverageSwitch()
    assert state() == (None, None, None)
    with switch.measuring(processes=True):
        assert state() == (tracer, tracer, "config")
    assert state() == (None, None, None)
    with switch.measuring(processes=False):
        assert state() == (tracer, tracer, None)


def test_a_debugger_is_not_disturbed() -> None:
    def debug(frame: FrameType, event: str, argument: Any) -> None:
        """Trace nothing."""

    threading.settrace(debug)
    sys.settrace(debug)
    switch = CoverageSwitch()
    with switch.measuring(processes=True):
        assert state()[:2] == (debug, debug)
    assert state()[:2] == (debug, debug)
