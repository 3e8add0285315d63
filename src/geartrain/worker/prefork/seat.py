"""Keeps one process of a worker running."""

from __future__ import annotations

import threading
from collections.abc import Callable

from geartrain.backoff import Backoff
from geartrain.worker.prefork.process import PreforkProcess

__all__ = ["Seat"]


class Seat:
    """
    Runs a process, and another one when it has ended, in a thread of its own.

    Args:
        create: Creates a process that has not been started.
        on_failed_start: Called with the reason when a process could not be started, or died without a connection.
        on_ended: Called last, with the error of a bug if there was one.
        on_restart: Called before a process is started in place of another one.
    """

    def __init__(
        self,
        create: Callable[[], PreforkProcess],
        on_failed_start: Callable[[Exception], None],
        on_ended: Callable[[BaseException | None], None],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._create = create
        self._on_failed_start = on_failed_start
        self._on_ended = on_ended
        self._on_restart = on_restart
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.process: PreforkProcess | None = None

    def start(self) -> None:
        """Start the first process."""
        threading.Thread(target=self._run, name="geartrain-process", daemon=True).start()

    def stop(self) -> None:
        """Start no more processes, and have the present one end when its job has ended."""
        if (process := self._close()) is not None:
            process.stop()

    def return_job(self) -> None:
        """Start no more processes, kill the present one, and give its job back."""
        if (process := self._close()) is not None:
            process.return_job()

    def _close(self) -> PreforkProcess | None:
        with self._lock:
            self._stopping.set()
            return self.process

    def _run(self) -> None:
        try:
            backoff = Backoff()
            while self._next():
                assert self.process is not None
                try:
                    error: Exception | None = self.process.run()
                except OSError as failure:
                    error = failure
                if self.process.has_connected:
                    backoff.reset()
                elif error is not None:
                    self._on_failed_start(error)
                    self._stopping.wait(backoff.next())
        except BaseException as bug:  # noqa: BLE001  # it ends the run
            self._on_ended(bug)
        else:
            self._on_ended(None)

    def _next(self) -> bool:
        with self._lock:
            is_restart = self.process is not None
            self.process = None if self._stopping.is_set() else self._create()
        if is_restart and self.process is not None:
            self._on_restart()
        return self.process is not None
