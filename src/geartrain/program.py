"""What makes a worker a program: it stops at signals, and logs to standard error."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Final, Self

from geartrain.errors import LocalProtocolError
from geartrain.log_format import TextFormatter
from geartrain.signals import name_signal

__all__ = ["STOP_HINT", "Program", "log_to_stderr"]

STOP_HINT: Final = "stopping at %s; a second signal, or Ctrl-C again, gives the running jobs back and ends immediately"

# SIGHUP: a closed terminal. Windows does not have it.
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Program:
    """
    Stops a worker at the first SIGINT, SIGTERM or SIGHUP, for the duration of a ``with`` block; ends it at the second.

    A signal that is ignored before stays ignored.

    Args:
        stop: Has the run end when its jobs have ended. Called in a thread.

    Raises:
        LocalProtocolError: If this is not the main thread, where alone Python can handle signals.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise LocalProtocolError("main() handles signals, so only the main thread can call it; others call run()")
        self._stop = stop
        self._end: Callable[[int], None] = _exit
        self._has_stopped = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        log_to_stderr()
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    async def run(self, run: Coroutine[Any, Any, None]) -> int | None:
        """
        Wait for a run in the event loop, which a second signal cancels.

        Returns:
            The number of the second signal, if there was one.
        """
        loop, task = asyncio.get_running_loop(), asyncio.create_task(run)
        ended_by: list[int] = []

        def end(number: int) -> None:
            ended_by.append(number)
            task.cancel()

        def end_soon(number: int) -> None:
            loop.call_soon_threadsafe(end, number)

        self._end = end_soon
        try:
            await task
        except asyncio.CancelledError:
            if not ended_by:
                raise
        finally:
            self._end = _exit
        return ended_by[0] if ended_by else None

    @staticmethod
    def end_with(number: int | None) -> None:
        """Exit as a program that was ended by this signal; return if there was none."""
        if number is not None:
            _exit(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._has_stopped:
            self._end(number)
            return
        self._has_stopped = True
        # A signal may interrupt a write to standard error, so it must not write there itself.
        threading.Thread(target=self._stop_soon, args=(number,), daemon=True).start()

    def _stop_soon(self, number: int) -> None:
        logging.getLogger("geartrain.worker").info(STOP_HINT, name_signal(number))
        self._stop()


def log_to_stderr(formatter: logging.Formatter | None = None) -> None:
    """Log geartrain's INFO and everyone's WARNING to standard error, unless the program has configured logging."""
    root, own = logging.getLogger(), logging.getLogger("geartrain")
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(formatter or TextFormatter())
    root.addHandler(handler)
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)


def _exit(number: int) -> None:
    raise SystemExit(128 + number)
