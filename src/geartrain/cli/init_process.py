"""
Does the work of an init process where this process has to: as process 1 of a container, or as a subreaper.

This is imported before anything else, and imports little itself: until it has run, process 1 loses the signals that it
is sent, since the kernel delivers none to it that has no handler.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as type checkers understand it, without the import of typing
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["fork_from_init_process", "reset_signals"]

_FAULTS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}  # the thread's own

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_GET_CHILD_SUBREAPER = 37


def reset_signals() -> None:
    """
    Undo what Python, or whoever started this process, has set up and a command cannot use.

    Until the event loop handles SIGINT, Ctrl-C ends the process without a traceback. Where SIGCHLD is ignored, the
    kernel discards the exit statuses of child processes. Other ignored signals stay ignored, as nohup requires.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def fork_from_init_process() -> None:
    """
    Fork if this process adopts orphaned processes, and return in the child.

    The parent forwards signals to the child, waits for every process it has adopted, and exits with the child's status.
    It does not run the command itself, so that it cannot take the exit status of a process that a function waits for.
    """
    is_process_1 = os.getpid() == 1
    if not is_process_1 and not _is_subreaper():
        return
    signals = {number for number in signal.valid_signals() if _get_name(number) not in _FAULTS}
    # Blocked signals stay pending, also those that process 1 has no handler for.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parent = os.getpid()
    child = os.fork()
    if child:
        sys.exit(_forward_and_reap(child, signals))
    os.setsid()  # what a terminal sends to its process group reaches the child only once, by way of the parent
    _end_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forward_and_reap(child: int, signals: Collection[int]) -> int:
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is a child that nobody has waited for, so the number is its own
        elif (status := _reap(child)) is not None:
            return status


def _reap(child: int) -> int | None:
    """Wait for all processes that have ended; return the exit status for us if the child is one of them."""
    pid = -1
    while pid not in (0, child):
        pid, status = os.waitpid(-1, os.WNOHANG)
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _is_subreaper() -> bool:
    try:
        import ctypes

        flag = ctypes.c_int()
        # A kernel or C library without it leaves the flag alone, or has no such function.
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), *_unused(3))
    except (ImportError, OSError, AttributeError):
        return False
    return flag.value == 1


def _end_with_parent(parent: int) -> None:
    """See that a parent that is killed leaves no child behind; with process 1, the kernel ends all processes anyway."""
    if parent == 1:
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), *_unused(3))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _unused(number: int) -> list[object]:
    import ctypes

    return [ctypes.c_ulong(0)] * number


def _get_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return ""
