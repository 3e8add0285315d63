from __future__ import annotations

import fnmatch
import os
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from coverage.config import CoverageConfig

import geartrain
from tests.support.coverage_switch import CoverageSwitch


class Tracer:
    __module__ = "coverage"

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Trace nothing."""


pytestmark = pytest.mark.untraced


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the trace functions that a test sets."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", CoverageConfig().serialize())
    yield
    sys.settrace(None)
    threading.settrace(None)


def state() -> tuple[Any, Any, bool]:
    """Return the two trace functions, and whether coverage starts in new processes."""
    return sys.gettrace(), threading.gettrace(), "COVERAGE_PROCESS_CONFIG" in os.environ


def test_coverage_is_measured_only_inside_the_block() -> None:
    tracer = Tracer()
    threading.settrace(tracer)
    sys.settrace(tracer)
    switch = CoverageSwitch()
    assert state() == (None, None, False)
    with switch.measuring(processes=True):
        assert state() == (tracer, tracer, True)
    assert state() == (None, None, False)
    with switch.measuring(processes=False):
        assert state() == (tracer, tracer, False)


def test_a_debugger_is_not_disturbed() -> None:
    def debug(frame: FrameType, event: str, argument: Any) -> None:
        """Trace nothing."""

    threading.settrace(debug)
    sys.settrace(debug)
    switch = CoverageSwitch()
    with switch.measuring(processes=True):
        assert state()[:2] == (debug, debug)
    assert state()[:2] == (debug, debug)


def test_processes_that_are_measured_do_not_look_for_files_that_they_have_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CoverageConfig()
    config.set_option("run:source", ["geartrain"])
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", config.serialize())
    with CoverageSwitch().measuring(processes=True):
        config = CoverageConfig.deserialize(os.environ["COVERAGE_PROCESS_CONFIG"])
    assert config.get_option("run:source") is None
    include = config.get_option("run:include")
    assert isinstance(include, list)
    assert [fnmatch.fnmatch(geartrain.__file__, pattern) for pattern in include] == [True]
