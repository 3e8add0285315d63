"""Runs a command in an event loop and cancels it on signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

from geartrain.cli.current_run import set_cancel
from geartrain.cli.exit_status import signal_status
from geartrain.cli.init_process import reset_signals

__all__ = ["run_async"]

# Ctrl-C, kill, and a closed terminal. Each ends the command and everything it has started. A signal that was ignored at
# startup stays ignored, as nohup and background jobs of a shell require.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_async(main: Coroutine[Any, Any, int], on_first_signal: Callable[[int], object] | None = None) -> int:
    """
    Run a coroutine and return its exit status, or that of the signal or :func:`.stop_command` that cancelled it.

    Args:
        main: The coroutine; a signal cancels it.
        on_first_signal: Called with the number of the first signal instead, so that only the second one cancels.
    """
    try:
        return asyncio.run(_run(main, on_first_signal))
    finally:
        reset_signals()  # asyncio has restored Python's SIGINT handler


async def _run(main: Coroutine[Any, Any, int], on_first_signal: Callable[[int], object] | None) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main)
    statuses: list[int] = []

    def cancel(status: int) -> None:
        statuses.append(status)
        task.cancel()

    def on_signal(number: int) -> None:
        nonlocal on_first_signal
        if on_first_signal is None:
            cancel(signal_status(number))
        else:
            on_first_signal(number)
            on_first_signal = None

    set_cancel(cancel)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal, number)
    try:
        status = await task
        return statuses[0] if statuses else status  # the task may end before it can be cancelled
    except asyncio.CancelledError:
        if not statuses:
            raise
        return statuses[0]
    finally:
        set_cancel(None)
