"""What a worker reports for monitoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

__all__ = ["JobMetrics", "Outcome"]

Outcome: TypeAlias = Literal["completed", "failed", "raised", "lost"]
"""How a job has ended; also the name of its counter in :class:`~geartrain.worker.counters.WorkerCounters`."""


class JobMetrics(Protocol):
    """Records jobs, connections and processes. Any thread may call it."""

    def add_function(self, function: str) -> None:
        """Show a function, before its first job."""

    def start_job(self, function: str) -> Callable[[Outcome], None]:
        """Record the start of a job; what it returns is called once when the job has ended."""

    def count_job(self, function: str, outcome: Outcome) -> None:
        """Record the end of a job that was started elsewhere, or never."""

    def on_connected(self, server: str) -> None:
        """Record a new connection."""

    def on_disconnected(self, server: str) -> None:
        """Record the end of a connection."""

    def on_restart(self) -> None:
        """Record that a process is started in place of one that has ended."""
