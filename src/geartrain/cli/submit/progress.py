"""What ``geartrain submit`` reports about its progress."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JobCounts", "ProgressDisplay"]


@dataclass(slots=True)
class JobCounts:
    """
    The number of jobs.

    Attributes:
        submitted: All jobs so far, including those that have ended.
        ended: Those that have ended.
        failed: Those that have ended with an error.
        is_complete: Whether there will be no more.
    """

    submitted: int = 0
    ended: int = 0
    failed: int = 0
    is_complete: bool = False


class ProgressDisplay:
    """Shows nothing; used if standard error is not a suitable terminal."""

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show the progress of a single job."""

    def show_counts(self, counts: JobCounts) -> None:
        """Show the progress of several jobs."""

    def hide(self) -> None:
        """Clear the display, so that other output can be printed."""

    def resume(self) -> None:
        """Show it again, below the output."""
