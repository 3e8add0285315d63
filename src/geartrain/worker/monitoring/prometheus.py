"""The metrics of a worker, kept by prometheus-client."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from geartrain.printable import printable
from geartrain.worker.job_metrics import Outcome
from geartrain.worker.monitoring.ended_processes import EndedProcessesCollector, merge_ended_processes
from geartrain.worker.monitoring.multiprocess import DIRECTORY, is_multiprocess

__all__ = ["PrometheusMetrics", "find_metrics", "make_registry"]

_OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)  # seconds


class PrometheusMetrics:
    """
    The :class:`~geartrain.worker.job_metrics.JobMetrics` of a process; get it from :func:`find_metrics`.

    The values of the label ``function`` are the functions that are registered, and no others.
    """

    def __init__(self) -> None:
        self._jobs = Counter("geartrain_jobs", "Jobs that have ended.", ["function", "outcome"])
        self._running = Gauge(
            "geartrain_jobs_running", "Jobs that are running.", ["function"], multiprocess_mode="livesum"
        )
        self._seconds = Histogram(
            "geartrain_job_seconds", "How long jobs have taken, in seconds.", ["function"], buckets=_BUCKETS
        )
        self._connections = Gauge(
            "geartrain_connections", "Connections to the job server.", ["server"], multiprocess_mode="livesum"
        )
        self._restarts = Counter("geartrain_restarts", "Processes started in place of others that have ended.")

    def add_function(self, function: str) -> None:
        """Show a function, before its first job."""
        name = printable(function, None)
        for outcome in _OUTCOMES:
            self._jobs.labels(name, outcome)
        self._running.labels(name)
        self._seconds.labels(name)

    def start_job(self, function: str) -> Callable[[Outcome], None]:
        """Record the start of a job; what it returns is called once when the job has ended."""
        name = printable(function, None)
        running = self._running.labels(name)
        running.inc()
        begin = time.perf_counter()

        def end(outcome: Outcome) -> None:
            self._seconds.labels(name).observe(time.perf_counter() - begin)
            running.dec()
            self._jobs.labels(name, outcome).inc()

        return end

    def count_job(self, function: str, outcome: Outcome) -> None:
        """Record the end of a job that was started elsewhere, or never."""
        self._jobs.labels(printable(function, None), outcome).inc()

    def on_connected(self, server: str) -> None:
        """Record a new connection."""
        self._connections.labels(server).inc()

    def on_disconnected(self, server: str) -> None:
        """Record the end of a connection."""
        self._connections.labels(server).dec()

    def on_restart(self) -> None:
        """Record that a process is started in place of one that has ended."""
        self._restarts.inc()
        if is_multiprocess():
            with suppress(OSError):  # the directory is gone, or the disk is full; a restart goes on nevertheless
                merge_ended_processes(Path(os.environ[DIRECTORY]))


@functools.cache
def find_metrics() -> PrometheusMetrics:
    """Return the metrics of this process. There is one object, because prometheus-client accepts a name once."""
    return PrometheusMetrics()


def make_registry() -> CollectorRegistry:
    """Return what to serve: the metrics of this process, or in multiprocess mode those of all its processes."""
    if not is_multiprocess():
        return REGISTRY
    registry = CollectorRegistry()
    EndedProcessesCollector(registry, Path(os.environ[DIRECTORY]))
    return registry
