"""What a worker logs about its own run: what it is, how it stops, what it has done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from geartrain.printable import printable
from geartrain.version import __version__
from geartrain.worker.function import Function, FunctionKind

if TYPE_CHECKING:
    from geartrain.worker.statistics import WorkerStatistics

__all__ = ["RunLog", "describe_worker"]

_OUTCOMES: Final = ("completed", "failed", "raised", "lost")
_EXECUTORS: Final = {FunctionKind.COROUTINE: "coroutine", FunctionKind.ASYNC_GENERATOR: "async generator"}


def describe_worker(
    client_id: str, job_servers: Sequence[str], concurrency: int, functions: Iterable[Function]
) -> list[str]:
    """Return lines about a worker: its version and limits, its job servers, and each function."""
    at_a_time = "1 job at a time" if concurrency == 1 else f"{concurrency} jobs at a time"
    return [
        f"geartrain {__version__}: worker {client_id}, {at_a_time}, job servers {', '.join(job_servers)}",
        *(f"function {printable(function.name)}: {_describe_function(function)}" for function in functions),
    ]


def _describe_function(function: Function) -> str:
    if function.processes is not None:
        executor = "in a process" if function.processes == 1 else f"in {function.processes} processes"
    else:
        executor = _EXECUTORS.get(function.kind, "in a thread")
    timeouts = [f"timeout {function.timeout:g} s"] if function.timeout is not None else []
    if function.can_do_timeout is not None:
        timeouts.append(f"CAN_DO_TIMEOUT {function.can_do_timeout / 1000:g} s")
    return ", ".join([executor, *timeouts])


class RunLog:
    """
    Logs the beginning and the end of a run, at INFO.

    Args:
        logger: The worker's logger.
        describe: Returns what :func:`describe_worker` does.
        read_statistics: Returns the worker's statistics.
    """

    def __init__(
        self,
        logger: logging.Logger,
        describe: Callable[[], Sequence[str]],
        read_statistics: Callable[[], WorkerStatistics],
    ) -> None:
        self._logger = logger
        self._describe = describe
        self._read_statistics = read_statistics
        self._began_at = 0.0
        self._before: WorkerStatistics | None = None  # a worker can run several times

    def __enter__(self) -> Self:
        if self._logger.isEnabledFor(logging.INFO):
            for line in self._describe():
                self._logger.info("%s", line)
            self._began_at, self._before = time.monotonic(), self._read_statistics()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        seconds, before, after = time.monotonic() - self._began_at, self._before, self._read_statistics()
        counts = {name: getattr(after, name) - getattr(before, name) for name in _OUTCOMES}
        self._logger.info(
            "stopped after %.1f s; jobs: %d completed, %d failed, %d raised an exception, %d returned or lost",
            seconds,
            *counts.values(),
            extra={"seconds": seconds, **counts},
        )

    def stopping(self, grace: float | None) -> None:
        """Log what a stop waits for."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        running = self._read_statistics().running
        if not running:
            self._logger.info("stopping: no job is running")
            return
        jobs = "1 job" if running == 1 else f"{running} jobs"
        self._logger.info(
            "stopping: waiting for %s%s",
            jobs,
            "" if grace is None else f", up to {grace:g} s",
            extra={"running": running},
        )
