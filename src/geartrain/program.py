"""What makes a worker a program: it stops at signals, and logs to standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Final, Self

from geartrain.errors import LocalProtocolError
from geartrain.log_format import TextFormatter
from geartrain.signals import name_signal
from geartrain.unpatched import start_native_thread, unpatched

__all__ = ["StopSignals", "log_start", "log_stop_signal", "log_to_stderr", "run_until_signals"]

logger: Final = logging.getLogger("geartrain.worker")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, and a closed terminal
_RETRY: Final = 0.05  # seconds after which the main thread is interrupted again


def run_until_signals(run: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]) -> None:
    """
    Run a worker in an event loop as a program: the first signal stops it, the second one cancels it.

    Args:
        run: Returns the run.
        stop: Has it end when its jobs have ended.

    Raises:
        LocalProtocolError: If this is not the main thread.
        SystemExit: After the second signal.
    """
    _check_main_thread()
    log_to_stderr()
    ended_by = asyncio.run(_run_until_signals(run, stop))
    if ended_by is not None:
        raise SystemExit(128 + ended_by)


async def _run_until_signals(run: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None]) -> int | None:
    """Return the second signal, if there was one."""
    loop, received = asyncio.get_running_loop(), list[int]()
    log_start()
    task = loop.create_task(run())

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            log_stop_signal(number)
            stop()
        elif len(received) == 2:
            task.cancel()

    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await task
    except asyncio.CancelledError:
        if len(received) < 2:
            raise
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
    return received[1] if len(received) > 1 else None


class StopSignals:
    """
    Stops a worker that runs functions in the main thread, for the duration of a ``with`` block.

    The first SIGINT, SIGTERM or SIGHUP stops it. The second one raises SystemExit in the main thread. A signal that is
    ignored before stays ignored.

    Python handles signals in the main thread only, and one that arrives just before that waits for a lock is handled
    when the wait is over, which may be never. So a thread is notified of them, and interrupts the main thread.

    Args:
        stop: Has the run end when its jobs have ended. Called in a thread.

    Raises:
        LocalProtocolError: If this is not the main thread.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        _check_main_thread()
        self._stop = stop
        self._main_thread: int = unpatched("_thread", "get_ident")()
        self._previous: dict[int, Any] = {}
        self._previous_fd = -1
        self._reading, self._writing = os.pipe()
        self._ended_by: int | None = None
        self._is_over = False  # SystemExit was raised, or the block has ended

    def __enter__(self) -> Self:
        log_to_stderr()
        log_start()
        os.set_blocking(self._writing, False)
        self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._on_signal)
        start_native_thread(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._writing)  # ends the thread

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ended_by is not None and not self._is_over:
            self._is_over = True
            raise SystemExit(128 + self._ended_by)

    def _watch(self) -> None:
        try:
            if (first := self._wait_for_signal()) is None:
                return
            log_stop_signal(first)
            self._stop()
            if (second := self._wait_for_signal()) is None:
                return
            self._ended_by = second
            while not self._is_over:
                signal.pthread_kill(self._main_thread, second)
                unpatched("time", "sleep")(_RETRY)
        finally:
            os.close(self._reading)

    def _wait_for_signal(self) -> int | None:
        """Return the next signal, or ``None`` when the block has ended."""
        read: Callable[[int, int], bytes] = unpatched("os", "read")
        while received := read(self._reading, 1):
            if received[0] in self._previous:
                return received[0]
        return None


def log_start() -> None:
    """Log how to stop a worker that is about to run."""
    logger.info("Ctrl-C or SIGTERM stops this worker; its running jobs can end")


def log_stop_signal(number: int) -> None:
    """Log what a first signal does, and what a second one would do."""
    logger.info("%s: no more jobs are taken; press Ctrl-C again to give the running ones back now", name_signal(number))


def log_to_stderr() -> None:
    """Log geartrain's INFO and everyone's WARNING to standard error, unless the program has configured logging."""
    root, own = logging.getLogger(), logging.getLogger("geartrain")
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter())
    root.addHandler(handler)
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)


def _check_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise LocalProtocolError("main() handles signals, so only the main thread can call it; others call run()")
