"""The results of all runs: stored as JSON, reported as medians."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

from benchmarks.case_runner import Figures
from benchmarks.processes import FailedError

VERSION: Final = 1  # of the files


class Results:
    """
    The figures of each run of each contestant in each case, or the reason why there are none.

    Attributes:
        about: The machine, the versions and the time, by workload.
        figures: The figures of each run, by case and contestant.
        failures: What went wrong, by case and contestant.
    """

    def __init__(self, about: dict[str, dict[str, Any]]) -> None:
        self.about = about
        self.figures: dict[str, dict[str, list[Figures]]] = {}
        self.failures: dict[str, dict[str, str]] = {}

    def add(self, case: str, contestant: str, measure: Callable[[], Figures]) -> Figures | None:
        """Measure a contestant once more, and return the figures; one that has failed is not measured again."""
        failures = self.failures.setdefault(case, {})
        if contestant in failures:
            return None
        try:
            figures = measure()
        except FailedError as error:
            failures[contestant] = str(error)
            return None
        self.figures.setdefault(case, {}).setdefault(contestant, []).append(figures)
        return figures

    def runs(self, case: str, contestant: str) -> list[Figures]:
        """Return the figures of each run; none if there was no run, or one failed."""
        if contestant in self.failures.get(case, {}):
            return []
        return self.figures.get(case, {}).get(contestant, [])

    def median(self, case: str, contestant: str, figure: str) -> float | None:
        """Return the median of a figure over all runs, ``None`` if it was not measured."""
        values = [run[figure] for run in self.runs(case, contestant) if figure in run]
        return median(values) if values else None

    def wrong(self, case: str, contestant: str) -> tuple[int, int]:
        """Return the number of wrong answers, and the number of all answers."""
        runs = self.runs(case, contestant)
        return int(sum(run["wrong"] for run in runs)), int(sum(run["jobs"] for run in runs))

    def distinct_machines(self) -> list[dict[str, Any]]:
        """Return the machines of all workloads, without duplicates."""
        distinct: list[dict[str, Any]] = []
        for about in self.about.values():
            if about not in distinct:
                distinct.append(about)
        return distinct

    def write(self, folder: Path) -> None:
        """Write one file for each workload, so that each can be measured again separately."""
        workloads = sorted({case.split("/")[0] for case in (*self.figures, *self.failures)})
        for workload in workloads:
            kept = {
                "version": VERSION,
                "about": self.about[workload],
                "figures": self._of(workload, self.figures),
                "failures": self._of(workload, self.failures),
            }
            (folder / f"{workload}.json").write_text(json.dumps(kept, indent=1) + "\n")

    @staticmethod
    def _of(workload: str, table: dict[str, Any]) -> dict[str, Any]:
        return {case: row for case, row in table.items() if case.split("/")[0] == workload and row}

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Read files written by :meth:`write`; each describes its own machine."""
        results = cls({})
        for path in paths:
            kept = json.loads(path.read_text())
            if kept["version"] == VERSION:
                results.about[path.stem] = kept["about"]
                results.figures.update(kept["figures"])
                results.failures.update(kept["failures"])
        return results
