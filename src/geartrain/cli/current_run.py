"""The run of the command in this process, which any part of the command can stop."""

from __future__ import annotations

TYPE_CHECKING = False  # recognized by type checkers, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["set_cancel", "stop_command"]

_cancel: Callable[[int], None] | None = None  # cancels the current run; a process has at most one


def set_cancel(cancel: Callable[[int], None] | None) -> None:
    """Set how to cancel the current run with an exit status; ``None`` if nothing is running."""
    global _cancel
    _cancel = cancel


def stop_command(status: int) -> None:
    """
    Cancel the current run, which cleans up and then returns ``status``.

    Raises:
        SystemExit: With ``status``, if nothing is running.
    """
    if _cancel is None:
        raise SystemExit(status)
    _cancel(status)
