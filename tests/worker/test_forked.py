"""Ending the copies of a process that functions fork. The real forks are in test_process_faults.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from geartrain.worker.forked import ending_forked_copies, exit_forked_copy


class ExitedError(BaseException):
    """Raised instead of ending this process."""

    def __init__(self, status: int) -> None:
        self.status = status


@pytest.fixture(autouse=True)
def no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_with(status: int) -> None:
        raise ExitedError(status)

    monkeypatch.setattr(os, "_exit", exit_with)


@pytest.fixture
def becoming_a_copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process ID differ at each call, as if the process had been forked in between."""
    numbers = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: next(numbers))
        yield


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (SystemExit(3), 3),
        (SystemExit("text"), 1),
        (SystemExit(None), 0),
        (SystemExit(257), 1),
        (KeyError("x"), 1),
    ],
)
def test_a_copy_ends_with_the_status_of_a_program(error: BaseException | None, status: int) -> None:
    with pytest.raises(ExitedError) as exited:
        exit_forked_copy(error)
    assert exited.value.status == status


def test_a_copy_prints_the_traceback_of_what_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExitedError):
        exit_forked_copy(KeyError("a reason"))
    assert "KeyError: 'a reason'" in capsys.readouterr().err


def test_a_copy_without_standard_streams_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(ExitedError) as exited:
        exit_forked_copy(None)
    assert exited.value.status == 0


@pytest.mark.usefixtures("becoming_a_copy")
def test_a_copy_that_returns_is_ended() -> None:
    with pytest.raises(ExitedError) as exited, ending_forked_copies():
        pass
    assert exited.value.status == 0


@pytest.mark.usefixtures("becoming_a_copy")
def test_a_copy_that_raises_is_ended() -> None:
    with pytest.raises(ExitedError) as exited, ending_forked_copies():
        raise SystemExit(5)
    assert exited.value.status == 5


def test_the_original_process_continues() -> None:
    with ending_forked_copies():
        pass
    with pytest.raises(KeyError), ending_forked_copies():
        raise KeyError("x")
