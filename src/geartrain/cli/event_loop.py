"""Runs what a command has to do in an event loop, and ends it at once when it is no longer wanted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

from geartrain.cli.exit_status import signal_status
from geartrain.cli.init_process import reset_signals

__all__ = ["run_async", "stop_command"]

# Ctrl-C, kill, and a closed terminal: each ends the command immediately, with everything that it started. A signal that
# was ignored at start stays ignored, as nohup and background jobs of a shell require.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_stop: Callable[[int], None] | None = None  # of the run that is under way; a process has one at a time


def run_async(main: Coroutine[Any, Any, int], on_first_signal: Callable[[], None] | None = None) -> int:
    """
    Run a coroutine and return its status, or the one that it was stopped with.

    Args:
        main: What is cancelled by a signal.
        on_first_signal: Called at the first signal instead, so that only the second one cancels.
    """
    try:
        return asyncio.run(_run(main, on_first_signal))
    finally:
        reset_signals()  # asyncio has given SIGINT back to Python


def stop_command(status: int) -> None:
    """
    Cancel the run that is under way, so that it cleans up; the program exits with this status.

    Raises:
        SystemExit: If none is under way.
    """
    if _stop is None:
        raise SystemExit(status)
    _stop(status)


async def _run(main: Coroutine[Any, Any, int], on_first_signal: Callable[[], None] | None) -> int:
    global _stop
    loop = asyncio.get_running_loop()
    task = loop.create_task(main)
    statuses: list[int] = []

    def cancel(status: int) -> None:
        statuses.append(status)
        task.cancel()

    def receive(number: int) -> None:
        nonlocal on_first_signal
        if on_first_signal is None:
            cancel(signal_status(number))
        else:
            on_first_signal()
            on_first_signal = None

    _stop = cancel
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, receive, number)
    try:
        status = await task
        return statuses[0] if statuses else status  # it may have ended before it could be cancelled
    except asyncio.CancelledError:
        if not statuses:
            raise
        return statuses[0]
    finally:
        _stop = None
