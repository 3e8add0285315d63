"""What a process with connections of its own shows to the worker that started it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from geartrain.worker.running_job import RunningJob
    from geartrain.worker.session import WorkerSession

__all__ = ["RunObserver"]


class RunObserver(Protocol):
    """Notified of the connections and of the jobs in threads of a run."""

    @property
    def accepts_jobs(self) -> bool:
        """Whether jobs are started. Others return to the job servers when the connections are closed."""

    def on_tick(self) -> None:
        """Called about once a second."""

    def on_connected(self, session: WorkerSession) -> None:
        """Called with a new connection, before anything is sent."""

    def on_first_bytes(self, session: WorkerSession) -> None:
        """Called when the job server has sent something for the first time."""

    def on_disconnected(self, session: WorkerSession) -> None:
        """Called when the connection is lost or closed."""

    def on_job_started(self, running: RunningJob, timeout: float | None) -> None:
        """Called under the lock before the function runs, with its timeout in seconds."""

    def on_job_ended(self, running: RunningJob) -> None:
        """Called under the lock when the final packet has been flushed."""

    def on_job_expired(self) -> None:
        """Called under the lock when a job has timed out, before its final packet is sent."""

    def on_expired_job_reported(self, running: RunningJob) -> None:
        """Called in the event loop when the final packet of a job that has timed out has been flushed."""
