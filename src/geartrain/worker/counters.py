"""What a worker counts for one job server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geartrain.worker.job_metrics import Outcome

__all__ = ["WorkerCounters"]


class WorkerCounters:
    """
    The jobs of one job server, over all its connections.

    Attributes:
        taken: Jobs that were started; each is then completed, failed, raised, lost, or still running.
        completed: Jobs that ended by WORK_COMPLETE.
        failed: Jobs that ended by WORK_FAIL.
        raised: Jobs that ended by WORK_EXCEPTION.
        lost: Jobs whose outcome could not be sent.
        refused: ERROR packets about jobs.
    """

    __slots__ = ("completed", "failed", "lost", "raised", "refused", "taken")

    def __init__(self) -> None:
        self.taken: int = 0
        self.completed: int = 0
        self.failed: int = 0
        self.raised: int = 0
        self.lost: int = 0
        self.refused: int = 0

    def count(self, outcome: Outcome) -> None:
        """Count a job that has ended."""
        setattr(self, outcome, getattr(self, outcome) + 1)

    @property
    def running(self) -> int:
        """Jobs that have not ended."""
        return self.taken - self.completed - self.failed - self.raised - self.lost
