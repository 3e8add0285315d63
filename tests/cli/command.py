"""Runs the command line as users do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "geartrain")
WITHIN = 50.0  # seconds


def make_environment(**changes: str) -> dict[str, str]:
    """The environment without anything that changes what is shown, or where it is sent."""
    decides = ("GEARMAN_SERVERS", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {name: value for name, value in os.environ.items() if name not in decides}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "80", "PYTHONUTF8": "1", **changes}


def geartrain(
    *arguments: str, standard_input: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=standard_input,
        capture_output=True,
        timeout=WITHIN,
        env=make_environment(**(environment or {})),
        cwd=ROOT,
        check=False,
    )


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command that the caller ends."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=make_environment(**(environment or {})),
        cwd=ROOT,
    )


def read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Read what it prints, up to the end of the line with these words."""
    assert process.stdout is not None
    lines = b""
    while words not in lines:
        line = process.stdout.readline()
        assert line, f"it ended before it said {words!r}: {lines!r} {process.communicate()!r}"
        lines += line
    return lines


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may vanish while it is read
        return False
    return state != "Z"
