"""Rows about functions: which ones to show, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from geartrain.cli.tables import Row

__all__ = ["SORT_COLUMNS", "RowSelection"]

_NAMES: Final = ("server", "function")

SORT_COLUMNS: Final = (*_NAMES, "queued", "running", "workers")


@dataclass(frozen=True, slots=True)
class RowSelection:
    """
    Which rows to show.

    Attributes:
        pattern: Show only functions whose names match this, as in a shell; ``None`` shows all.
        sort: One of :data:`SORT_COLUMNS`; the largest number is first. ``None`` keeps the order.
    """

    pattern: str | None = None
    sort: str | None = None

    def select(self, rows: Iterable[Row], *, idle_last: bool = False) -> list[Row]:
        """
        Return the selected rows in order.

        Args:
            rows: All rows, sorted by function for each job server.
            idle_last: Without ``sort``, move functions without jobs and workers to the end.
        """
        selected = [row for row in rows if self.pattern is None or fnmatchcase(str(row["function"]), self.pattern)]
        if self.sort is not None:
            column, is_name = self.sort, self.sort in _NAMES
            selected.sort(key=lambda row: cast(Any, row[column]), reverse=not is_name)
        elif idle_last:
            selected.sort(key=lambda row: not (row["queued"] or row["running"] or row["workers"]))
        return selected
