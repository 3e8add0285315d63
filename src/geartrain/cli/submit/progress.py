"""What ``geartrain submit`` reports about its progress."""

from __future__ import annotations

__all__ = ["ProgressDisplay"]


class ProgressDisplay:
    """Shows nothing; used if standard error is not a suitable terminal."""

    def show_status(self, numerator: float, denominator: float) -> None:
        """Show the progress of a single job."""

    def show_count(self, ended: int, outstanding: int) -> None:
        """Show the number of jobs, if there are several."""

    def hide(self) -> None:
        """Clear the display before output is printed; later updates appear below the output."""
