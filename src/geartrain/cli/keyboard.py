"""Reads key presses from standard input."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Keyboard", "has_keyboard"]

# What terminals send -> a name. The second form is that of the "application mode" of cursor keys.
_SEQUENCES: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
}

# A complete sequence, the beginning of one, or any other character.
_KEY: Final = re.compile(
    r"(?P<sequence>\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]))|(?P<start>\x1b(?:\[[0-9;]*|O)?$)|.", re.DOTALL
)


def has_keyboard() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


class Keyboard:
    """
    Passes each key press to a function in the running event loop, without echo and without waiting for Enter.

    Nothing happens if standard input is not a terminal. Use it as a context manager, which restores the terminal.

    Args:
        on_key: Called with a character, or with the name of a key that scrolls, such as ``page down``.
    """

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._start = ""  # of a sequence whose end has not arrived yet
        self._saved: list[Any] | None = None

    def __enter__(self) -> Self:
        if has_keyboard():
            self._saved = termios.tcgetattr(0)
            tty.setcbreak(0, termios.TCSADRAIN)  # keep what was typed before
            asyncio.get_running_loop().add_reader(0, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._saved is not None:
            asyncio.get_running_loop().remove_reader(0)
            termios.tcsetattr(0, termios.TCSAFLUSH, self._saved)
            self._saved = None

    def _read(self) -> None:
        data = os.read(0, 1024)
        if not data:
            asyncio.get_running_loop().remove_reader(0)
        text = self._start + data.decode("utf-8", "replace")
        self._start = ""
        for match in _KEY.finditer(text):
            if match["start"]:
                self._start = match["start"]
            elif not match["sequence"]:
                self._on_key(match[0])
            elif match[0] in _SEQUENCES:
                self._on_key(_SEQUENCES[match[0]])
