"""What a client counts for one job server."""

from __future__ import annotations

__all__ = ["ServerCounters"]


class ServerCounters:
    """
    The tries that were sent to one job server.

    Attributes:
        submitted: All of them; each is then completed, failed, cancelled, or still outstanding.
        completed: Those that succeeded.
        failed: Those that failed, timed out or were lost.
        cancelled: Those that the application cancelled.
        retried: Of those that failed, those followed by another try.
    """

    __slots__ = ("cancelled", "completed", "failed", "retried", "submitted")

    def __init__(self) -> None:
        self.submitted: int = 0
        self.completed: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self.retried: int = 0

    @property
    def outstanding(self) -> int:
        """Tries that have not ended."""
        return self.submitted - self.completed - self.failed - self.cancelled
