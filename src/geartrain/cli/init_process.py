"""
Acts as an init process when this process is process 1 of a container, or a subreaper.

This module is imported first and has few imports, because signals that arrive before it has run may be lost: the kernel
discards those for which process 1 has no handler.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # recognized by type checkers, without importing typing
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["fork_from_init_process", "reset_signals"]

# Delivered to the thread that caused them.
_FAULT_SIGNALS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_GET_CHILD_SUBREAPER = 37


def reset_signals() -> None:
    """
    Restore the signal handling that commands rely on, whatever Python or the parent process has set up.

    Until the event loop handles SIGINT, Ctrl-C ends the process without a traceback. Where SIGCHLD is ignored, the
    kernel discards the exit statuses of child processes. Other ignored signals stay ignored, as nohup requires.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def fork_from_init_process() -> None:
    """
    Fork if this process adopts orphaned processes, and return in the child.

    The parent forwards signals to the child, reaps every adopted process, and exits with the child's status. It does
    not run the command itself, because reaping would then take the exit status of processes that the command waits for.
    """
    is_process_1 = os.getpid() == 1
    if not is_process_1 and not _is_subreaper():
        return
    signals = {number for number in signal.valid_signals() if _signal_name(number) not in _FAULT_SIGNALS}
    # Blocked signals stay pending, even those for which process 1 has no handler.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parent = os.getpid()
    child = os.fork()
    if child:
        sys.exit(_forward_and_reap(child, signals))
    os.setsid()  # the child gets signals from a terminal once, forwarded by the parent, rather than twice
    _end_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forward_and_reap(child: int, signals: Collection[int]) -> int:
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # not reaped yet, so the process ID is still valid
        elif (status := _reap(child)) is not None:
            return status


def _reap(child: int) -> int | None:
    """Reap all processes that have exited; return the exit status for this process if the child is among them."""
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
        # Without support, the flag stays unchanged or the function is missing.
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), *_unused_arguments(3))
    except (ImportError, OSError, AttributeError):
        return False
    return flag.value == 1


def _end_with_parent(parent: int) -> None:
    """Die with the parent, even if it is killed. When process 1 dies, the kernel kills all others anyway."""
    if parent == 1:
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), *_unused_arguments(3))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _unused_arguments(count: int) -> list[object]:
    import ctypes

    return [ctypes.c_ulong(0)] * count


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return ""
