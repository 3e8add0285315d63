"""The record of one running job in the worker's process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from geartrain.worker.job import WorkerJob, reporter_of
from geartrain.worker.reporter import job_ended_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from geartrain.protocol.packets import PacketType
    from geartrain.protocol.worker import Assignment
    from geartrain.worker.job_metrics import Outcome
    from geartrain.worker.session import WorkerSession

__all__ = ["RunningJob", "running_job_of"]


class RunningJob:
    """
    A job from its start to its end, and the reporter of its :class:`~geartrain.worker.job.WorkerJob`.

    Attributes:
        session: The connection that assigned the job.
        assignment: The job as the job server assigned it.
        started_at: When it was assigned, by the monotonic clock.
        has_ended: The final packet was sent or dropped; no update may follow.
        orphaned_thread: The thread that still runs the function of a job that was cancelled, or ``None``. A thread
            cannot be stopped, so the slot stays in use until it returns.
        on_end: Called once with the outcome, or ``None``.
    """

    __slots__ = ("assignment", "has_ended", "on_end", "orphaned_thread", "session", "started_at")

    def __init__(self, session: WorkerSession, assignment: Assignment) -> None:
        self.session: WorkerSession = session
        self.assignment: Assignment = assignment
        self.started_at: float = time.monotonic()
        self.has_ended: bool = False
        self.orphaned_thread: Future[Any] | None = None
        self.on_end: Callable[[Outcome], None] | None = None

    def count(self, outcome: Outcome) -> None:
        """Count how it has ended."""
        self.session.counters.count(outcome)
        if self.on_end is not None:
            self.on_end(outcome)

    @property
    def server(self) -> str:
        """The job server's address."""
        return self.session.server

    @property
    def max_packet_size(self) -> int:
        """The maximum size of a result or an update."""
        return self.session.max_packet_size

    @property
    def is_lost(self) -> bool:
        """Whether the connection to the job server is lost."""
        return self.session.is_lost

    def send_update(self, kind: PacketType, data: bytes) -> None:
        """
        Send an update about the job. A thread that sends much waits until most of it has been taken.

        Raises:
            JobTooLargeError: If it is longer than ``max_packet_size``.
            LocalProtocolError: If the job has ended, or this process was forked from the worker's.
        """
        if self.has_ended:
            raise job_ended_error(self.assignment)
        self.session.send_update(self.assignment, kind, data)

    def drain(self) -> Awaitable[None]:
        """Wait until the job server has taken most of what was sent, or the connection is lost."""
        return self.session.drain()


def running_job_of(job: WorkerJob) -> RunningJob:
    """Return the record of a job that runs in the worker's process."""
    running = reporter_of(job)
    assert isinstance(running, RunningJob)
    return running
