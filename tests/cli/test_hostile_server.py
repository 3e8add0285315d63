"""No command lets a job server or a worker command the terminal, or forge lines, on a terminal or in a pipe."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest

from tests.cli.command import geartrain
from tests.cli.hostile_server import TEXT, HostileServer, hostile_server
from tests.cli.terminal import run_in_terminal

# The arguments, and how the server ends jobs.
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


def judge(text: str) -> None:
    """Fail if there is a character in a text that a terminal obeys, or a line that is not ours."""
    obeyed = {c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not obeyed, (obeyed, text)
    assert not re.search(r"^FORGED", text, re.MULTILINE), text


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_character_or_forged_line_reaches_a_pipe(server: HostileServer, command: str) -> None:
    arguments, server.mode = COMMANDS[command]
    ended = geartrain(arguments[0], "-s", server.address, *arguments[1:])
    judge(ended.stderr.decode())
    assert b"Traceback" not in ended.stderr
    if server.mode == "complete" and arguments[0] == "submit" and "-b" not in arguments and "--label" not in arguments:
        assert ended.stdout == TEXT * 2, "results stay as they are"
    elif "--label" not in arguments:
        judge(ended.stdout.decode())


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_character_or_forged_line_reaches_a_terminal(server: HostileServer, command: str) -> None:
    arguments, server.mode = COMMANDS[command]
    _, written = run_in_terminal(arguments[0], "-s", server.address, *arguments[1:])
    assert "\x1b[5;7m" not in written
    # What is left are the codes of our own tables and bars.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r\n", "\n")
    assert "Traceback" not in plain
    if server.mode == "complete" and "-b" not in arguments:
        # The lines of a result are its own; only what a terminal obeys is escaped.
        plain = plain.replace("\nFORGED", "\n|FORGED")
    judge(plain.replace("\r", ""))
