"""Runs the command line in a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import Self

from tests.cli.command import COMMAND, ROOT, WITHIN, make_environment


class Terminal:
    """
    A command in a terminal of its own, as its controlling one, so that Ctrl-C works.

    Attributes:
        written: All that it wrote, control codes included.
    """

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 30) -> None:
        self.written = ""
        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = make_environment()
        del environment["COLUMNS"]
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *COMMAND, *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
            cwd=ROOT,
        )
        os.close(other)

    @property
    def plain(self) -> str:
        """What it wrote, without control codes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._own, keys.encode())

    def read_until(self, pattern: str) -> None:
        """Wait until it has written something, control codes left out."""
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.plain):
            assert time.monotonic() < deadline, f"it did not write {pattern!r}: {self.plain[-2000:]!r}"
            if select.select([self._own], [], [], 0.1)[0]:
                assert self._read(), f"it ended before it wrote {pattern!r}: {self.plain[-2000:]!r}"

    def wait(self) -> int:
        """Wait for its end, and return its status."""
        while self._read():
            pass
        return self._process.wait(WITHIN)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._own, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return False
        self.written += chunk.decode(errors="replace")
        return bool(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._own)  # a command that still runs is told SIGHUP
        self._process.wait(WITHIN)


def run_in_terminal(*arguments: str) -> tuple[int, str]:
    """Run a command to its end; return its status and all that it wrote, control codes included."""
    with Terminal(*arguments) as terminal:
        return terminal.wait(), terminal.written
