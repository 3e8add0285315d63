"""Behaviour common to all commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

import geartrain as package
from tests.cli.command import COMMAND, ROOT, geartrain, make_environment


@pytest.mark.parametrize(("missing", "arguments"), [("click", []), ("rich", ["demo"])])
def test_a_missing_extra_is_reported_with_the_install_command(missing: str, arguments: list[str]) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from geartrain.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, cwd=ROOT, env=make_environment(), check=False
    )
    assert result.returncode == 2
    assert result.stdout == b""
    assert result.stderr == b"geartrain: the command line requires click and rich: pip install 'geartrain[cli]'\n"


def test_version_option() -> None:
    result = geartrain("--version")
    assert (result.returncode, result.stdout.decode()) == (0, f"geartrain, version {package.__version__}\n")


def test_without_a_command_the_help_is_shown() -> None:
    result = geartrain()
    assert result.returncode == 2
    assert b"demo " in result.stderr


def test_standard_output_may_be_closed() -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "ping", "-s", "127.0.0.1:1"]
    result = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert result.returncode == 3
    assert result.stderr.startswith(b"geartrain: 127.0.0.1:1 could not be reached: ")
    assert result.stderr.count(b"\n") == 1


def test_an_unknown_command_is_reported_in_one_sentence() -> None:
    result = geartrain("dmeo")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"geartrain: No such command 'dmeo'.")
    assert result.stderr.count(b"\n") == 1
