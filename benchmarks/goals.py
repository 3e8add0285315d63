"""What geartrain is to reach: ratios of figures that were measured side by side."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple

from benchmarks.results import Results


class Figure(NamedTuple):
    """A figure of a contestant in a case."""

    case: str
    contestant: str
    name: str

    def values(self, results: Results) -> list[float]:
        return [run[self.name] for run in results.runs(self.case, self.contestant) if self.name in run]


class Bound(NamedTuple):
    """
    What is compared with a limit, and how.

    Attributes:
        measure: Returns the value, or ``None`` where it was not measured.
        limit: The goal.
        least: The value is to be no less than the limit, and not no more.
        unit: Written behind both.
    """

    measure: Callable[[Results], float | None]
    limit: float
    least: bool = False
    unit: str = ""

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


class Goal(NamedTuple):
    """A line of the table; where there are several bounds, one of them is enough."""

    text: str
    bounds: tuple[Bound, ...]


def ratio(over: Figure, under: Figure) -> Callable[[Results], float | None]:
    """Compare within each repetition, where the machine was the same for both; the median of that is the value."""

    def measure(results: Results) -> float | None:
        pairs = zip(over.values(results), under.values(results), strict=False)
        ratios = [value / base for value, base in pairs if base]
        return median(ratios) if ratios else None

    return measure


def difference(more: Figure, less: Figure) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        pairs = zip(more.values(results), less.values(results), strict=False)
        differences = [value - base for value, base in pairs]
        return median(differences) if differences else None

    return measure


def alone(figure: Figure) -> Callable[[Results], float | None]:
    return lambda results: results.median(*figure)


def at_most(limit: float, measure: Callable[[Results], float | None], unit: str = "") -> Bound:
    return Bound(measure, limit, unit=unit)


def at_least(limit: float, measure: Callable[[Results], float | None]) -> Bound:
    return Bound(measure, limit, least=True)


def _cpu(contestant: str, case: str = "w3/1000") -> Figure:
    return Figure(case, contestant, "client_cpu")


def _server_cpu(contestant: str, case: str = "w3/1000") -> Figure:
    return Figure(case, contestant, "server_cpu")


def _rate(contestant: str, case: str) -> Figure:
    return Figure(case, contestant, "rate")


GOALS: Final = (
    Goal(
        "w3 `await client.do`, 1,000 outstanding: client CPU per job / libgearman's",
        (at_most(0.5, ratio(_cpu("geartrain-do"), _cpu("libgearman"))),),
    ),
    Goal(
        "the same: client CPU per job / gearmand's",
        (at_most(3.0, ratio(_cpu("geartrain-do"), _server_cpu("geartrain-do"))),),
    ),
    Goal(
        "the same on uvloop",
        (at_most(2.2, ratio(_cpu("geartrain-do-uvloop"), _server_cpu("geartrain-do-uvloop"))),),
    ),
    Goal(
        "w3 `map`, 1,000 outstanding: jobs/s / the ceiling's",
        (at_least(0.95, ratio(_rate("geartrain-map", "w3/1000"), _rate("ceiling", "w3/1000"))),),
    ),
    *(
        Goal(
            f"w3 {shown}, {outstanding:,} outstanding: gearmand CPU per job / the ceiling's",
            (
                at_most(
                    1.1,
                    ratio(_server_cpu(name, f"w3/{outstanding}"), _server_cpu("ceiling", f"w3/{outstanding}")),
                ),
            ),
        )
        for name, shown in (("geartrain-do", "`do`"), ("geartrain-map", "`map`"))
        for outstanding in (256, 1000, 4000, 20000)
    ),
    Goal(
        "w3 `timeout=30` on every job: extra client CPU per job",
        (
            at_most(0.5, difference(_cpu("geartrain-timeout"), _cpu("geartrain-do")), " us"),
            at_most(1.2, ratio(_cpu("geartrain-timeout"), _cpu("geartrain-do")), " x"),
        ),
    ),
)
