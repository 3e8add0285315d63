"""Runs the command line in a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

from tests.cli.command import COMMAND, ROOT, WITHIN, make_environment


def run_in_terminal(*arguments: str, columns: int = 80, lines: int = 30) -> tuple[int, str]:
    """Run a command to its end; return its status and all that it wrote, control codes included."""
    own, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = make_environment()
    del environment["COLUMNS"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=other, stdout=other, stderr=other, env=environment, cwd=ROOT
    ) as process:
        os.close(other)
        written = b""
        while chunk := _read(own):
            written += chunk
        status = process.wait(WITHIN)
    os.close(own)
    return status, written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""
