"""Detects the end of a process with a file descriptor."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from subprocess import Popen

__all__ = ["is_readable", "open_exit_descriptor"]


def open_exit_descriptor(process: Popen[bytes]) -> int:
    """
    Return a file descriptor that becomes readable when a process ends.

    A pidfd on Linux; elsewhere one end of a pipe, and a thread that waits for the process.
    """
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, a kernel before 5.3, a sandbox, or it has already been reaped
        reading, writing = os.pipe()
        threading.Thread(target=_write_at_exit, args=(process, writing), daemon=True).start()
        return reading


def is_readable(descriptor: int, timeout: float) -> bool:
    """Wait for at most ``timeout`` seconds until a descriptor is readable, and return whether it is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _write_at_exit(process: Popen[bytes], writing: int) -> None:
    # Without reaping it: its process ID must stay its own until its process group has been killed.
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):  # other code has waited for it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:  # pragma: no cover  # macOS before Python 3.13
        process.wait()
    # Closing alone is not enough: a process that was forked meanwhile may hold the pipe open.
    os.write(writing, b".")
    os.close(writing)
