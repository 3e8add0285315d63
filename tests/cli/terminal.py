"""Runs the command line in a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.cli.command import TIMEOUT, make_environment, start_in_terminal


class Terminal:
    """
    A command with its own controlling terminal, so that Ctrl-C works.

    Attributes:
        written: All output, including control codes.
    """

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 30) -> None:
        self.written = ""
        self._parent_end, child_end = pty.openpty()
        self.resize(columns, lines)
        self._settings = termios.tcgetattr(self._parent_end)
        environment = make_environment()
        del environment["COLUMNS"]
        self._process = start_in_terminal(*arguments, environment=environment, terminal=child_end)
        os.close(child_end)

    @property
    def plain(self) -> str:
        """All output, without control codes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)

    @property
    def is_restored(self) -> bool:
        """Whether the settings of the terminal, such as echo, are as they were at first."""
        return termios.tcgetattr(self._parent_end) == self._settings

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        fcntl.ioctl(self._parent_end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Send key presses."""
        os.write(self._parent_end, keys.encode())

    def read_until(self, pattern: str) -> None:
        """Wait until the output without control codes matches a pattern."""
        self._read_until(lambda: re.search(pattern, self.plain) is not None, pattern)

    def read_until_count(self, code: str, count: int) -> None:
        """Wait until a control code has been written a number of times."""
        self._read_until(lambda: self.written.count(code) >= count, code)

    def wait(self) -> int:
        """Wait until the command has exited and return its exit status."""
        while self._read():
            pass
        return self._process.wait(TIMEOUT)

    def _read_until(self, is_written: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 20
        while not is_written():
            assert time.monotonic() < deadline, f"the command did not write {what!r}: {self.plain[-2000:]!r}"
            if select.select([self._parent_end], [], [], 0.1)[0]:
                assert self._read(), f"the command exited before it wrote {what!r}: {self.plain[-2000:]!r}"

    def _read(self) -> bool:
        try:
            chunk = os.read(self._parent_end, 65536)
        except OSError:  # Linux returns EIO once the other end is closed
            return False
        self.written += chunk.decode(errors="replace")
        return bool(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._parent_end)  # a command that is still running receives SIGHUP
        with self._process:
            self._process.wait(TIMEOUT)


def run_in_terminal(*arguments: str) -> tuple[int, str]:
    """Run a command until it exits; return its exit status and all output, including control codes."""
    with Terminal(*arguments) as terminal:
        return terminal.wait(), terminal.written
