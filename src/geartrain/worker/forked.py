"""Ends the copies of a process that functions fork and let return."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["ProcessId", "ending_forked_copies", "exit_forked_copy"]


class ProcessId:
    """Caches the ID of this process: it is checked after each job, and a system call would be slow."""

    current: int = os.getpid()

    @classmethod
    def renew(cls) -> None:
        """Update the ID after a fork."""
        cls.current = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ProcessId.renew)


@contextlib.contextmanager
def ending_forked_copies() -> Iterator[None]:
    """
    End the copy of this process if a function forks and lets the copy return or raise.

    An ``execvp`` of a program that does not exist is enough for that. The copy is not a worker: it would reply in place
    of the original, or wait forever for its next job. It ends as a program does: with status 0, with that of a
    SystemExit, or with a traceback and 1.
    """
    process = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != process:
            exit_forked_copy(error)
        raise
    if os.getpid() != process:
        exit_forked_copy(None)


def exit_forked_copy(error: BaseException | None) -> NoReturn:
    """End this process, a copy in which a function returned, or raised ``error``."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stream, or it is not writable
                stream.flush()
    finally:
        os._exit(status & 0xFF)
