from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.processes import run_program


def test_a_program_that_takes_too_long_is_killed_with_what_it_has_started() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream:
        with os.fdopen(writing), pytest.raises(subprocess.TimeoutExpired):
            run_program(["sh", "-c", "sleep 600 & wait"], timeout=0.1, pass_fds=[writing])
        assert stream.read() == "", "it ends when no process has the other end"


def test_the_exit_status_and_both_outputs_of_a_program_are_returned() -> None:
    ended = run_program(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
