"""Runs the command line in separate processes."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cli.command_server import CommandServer
from tests.cli.running_command import RunningCommand

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "geartrain")
TIMEOUT = 50.0  # seconds


def make_environment(**changes: str) -> dict[str, str]:
    """Return the environment without variables that change the output or the job servers."""
    removed = ("GEARMAN_SERVERS", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "80", "PYTHONUTF8": "1", **changes}


def geartrain(
    *arguments: str,
    standard_input: bytes = b"",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """
    Run a command in a separate process and wait until it has exited.

    The process is forked from one that has already imported geartrain. Tests that depend on the interpreter's startup
    run :data:`COMMAND`.
    """
    changed = make_environment(**(environment or {}))
    return _command_server().run(arguments, standard_input, changed, directory or ROOT, TIMEOUT)


def _command_server() -> CommandServer:
    return _start_command_server(is_measured="COVERAGE_PROCESS_CONFIG" in os.environ)


@functools.cache
def _start_command_server(*, is_measured: bool) -> CommandServer:
    """Start the server for all commands whose coverage is measured, or for all others."""
    server = CommandServer(COMMAND[1:3], make_environment())
    atexit.register(server.close)
    return server


def start(*arguments: str, directory: Path | None = None, has_input: bool = True) -> RunningCommand:
    """Start a command, in a process that is forked like those of :func:`geartrain`; the caller must end it."""
    return _command_server().start(arguments, make_environment(), directory or ROOT, has_input=has_input)


def start_in_terminal(*arguments: str, environment: Mapping[str, str], terminal: int) -> RunningCommand:
    """Start a forked command in a session of its own, with this controlling terminal."""
    return _command_server().start_in_terminal(arguments, environment, ROOT, terminal)


def read_until(process: RunningCommand, text: bytes) -> bytes:
    """Read standard output up to the end of the line that contains ``text``."""
    assert process.stdout is not None
    lines = b""
    while text not in lines:
        line = process.stdout.readline()
        assert line, f"the command exited before it printed {text!r}: {lines!r} {process.communicate()!r}"
        lines += line
    return lines


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the process may vanish during the read
        return False
    return state != "Z"
