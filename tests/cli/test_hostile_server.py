"""A job server or worker cannot send control codes to the terminal or forge lines, in a terminal or a pipe."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest

from tests.cli.command import geartrain
from tests.cli.hostile_server import TEXT, HostileServer, hostile_server
from tests.cli.terminal import run_in_terminal

# The arguments, and the server's mode.
COMMANDS = {
    "status": (["status"], ""),
    "status --priority": (["status", "--priority"], ""),
    "status --json": (["status", "--json"], ""),
    "workers": (["workers", "--all"], ""),
    "jobs": (["jobs"], ""),
    "jobs --unique": (["jobs", "--unique"], ""),
    "version": (["version", "--process"], ""),
    "ping": (["ping"], ""),
    "cancel": (["cancel", "H:x:1"], ""),
    "create": (["create", "f"], ""),
    "drop": (["drop", "f"], ""),
    "maxqueue": (["maxqueue", "f", "1"], ""),
    "submit": (["submit", "f", "x"], "complete"),
    "submit --lines --label": (["submit", "f", "--label", "x"], "complete"),
    "submit, failed": (["submit", "f", "x"], "fail"),
    "submit, exception": (["submit", "f", "x"], "exception"),
    "submit, refused": (["submit", "f", "x"], "error"),
    "submit --background": (["submit", "-b", "f", "x"], "complete"),
    "worker": (["worker", "f", "--count", "1", "-vv", "--", "false"], ""),
}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


def check_output(text: str) -> None:
    """Fail if a text contains a character that terminals interpret, or a forged line."""
    interpreted = {c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not interpreted, (interpreted, text)
    assert not re.search(r"^FORGED", text, re.MULTILINE), text


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_character_or_forged_line_reaches_a_pipe(server: HostileServer, command: str) -> None:
    arguments, server.mode = COMMANDS[command]
    result = geartrain(arguments[0], "-s", server.address, *arguments[1:])
    check_output(result.stderr.decode())
    assert b"Traceback" not in result.stderr
    if server.mode == "complete" and arguments[0] == "submit" and "-b" not in arguments and "--label" not in arguments:
        assert result.stdout == TEXT * 2, "results are passed through unchanged"
    elif "--label" not in arguments:
        check_output(result.stdout.decode())


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_character_or_forged_line_reaches_a_terminal(server: HostileServer, command: str) -> None:
    arguments, server.mode = COMMANDS[command]
    _, written = run_in_terminal(arguments[0], "-s", server.address, *arguments[1:])
    assert "\x1b[5;7m" not in written
    # The remaining codes are those of geartrain's own tables and bars.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r\n", "\n")
    assert "Traceback" not in plain
    if server.mode == "complete" and "-b" not in arguments:
        # A result may contain any lines; only control characters are escaped.
        plain = plain.replace("\nFORGED", "\n|FORGED")
    check_output(plain.replace("\r", ""))
