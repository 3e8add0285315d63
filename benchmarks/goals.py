"""The performance goals of geartrain: ratios of figures that were measured side by side."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple, TypeAlias

from benchmarks.results import Results

Measure: TypeAlias = Callable[[Results], float | None]


class Figure(NamedTuple):
    """A figure of a contestant in a case."""

    case: str
    contestant: str
    name: str

    def values(self, results: Results) -> list[float]:
        return [run[self.name] for run in results.runs(self.case, self.contestant) if self.name in run]


class Bound(NamedTuple):
    """
    A value and its limit.

    Attributes:
        measure: Returns the value, or ``None`` if it was not measured.
        limit: The goal.
        least: Whether the limit is a minimum rather than a maximum.
        unit: Written after both.
    """

    measure: Measure
    limit: float
    least: bool = False
    unit: str = ""

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


class Goal:
    """A row of the table; if there are several bounds, meeting one of them is enough."""

    def __init__(self, text: str, *bounds: Bound) -> None:
        self.text = text
        self.bounds = bounds


def ratio(over: Figure, under: Figure) -> Measure:
    """Return the median of the ratios within each repetition, in which the machine was the same for both."""

    def measure(results: Results) -> float | None:
        pairs = zip(over.values(results), under.values(results), strict=False)
        ratios = [value / base for value, base in pairs if base]
        return median(ratios) if ratios else None

    return measure


def difference(more: Figure, less: Figure) -> Measure:
    def measure(results: Results) -> float | None:
        pairs = zip(more.values(results), less.values(results), strict=False)
        differences = [value - base for value, base in pairs]
        return median(differences) if differences else None

    return measure


def median_of(figure: Figure) -> Measure:
    return lambda results: results.median(*figure)


def at_most(limit: float, measure: Measure, unit: str = "") -> Bound:
    return Bound(measure, limit, unit=unit)


def at_least(limit: float, measure: Measure) -> Bound:
    return Bound(measure, limit, least=True)


def of(figure: str, contestant: str, case: str = "w3/1000") -> Figure:
    return Figure(case, contestant, figure)


def per_contestant(figure: str, contestant: str, rival: str, case: str) -> Measure:
    """Compare the same figure of two contestants in a case."""
    return ratio(of(figure, contestant, case), of(figure, rival, case))


# The interfaces and numbers of outstanding jobs for which gearmand's CPU time is compared.
_INTERFACES: Final = {"geartrain-do": "`do`", "geartrain-map": "`map`"}
_OUTSTANDING: Final = (256, 1000, 4000, 20_000)

GOALS: Final = (
    Goal(
        "w3 `await client.do`, 1,000 outstanding: client CPU per job / libgearman's with uniques from the caller",
        at_most(0.5, per_contestant("client_cpu", "geartrain-do", "libgearman", "w3/1000")),
    ),
    Goal(
        "the same / libgearman's with the UUIDs that it generates by default",
        at_most(0.5, per_contestant("client_cpu", "geartrain-do", "libgearman-uuid", "w3/1000")),
    ),
    Goal(
        "the same / gearmand's CPU per job",
        at_most(3.0, ratio(of("client_cpu", "geartrain-do"), of("server_cpu", "geartrain-do"))),
    ),
    Goal(
        "the same on uvloop / gearmand's CPU per job",
        at_most(2.2, ratio(of("client_cpu", "geartrain-do-uvloop"), of("server_cpu", "geartrain-do-uvloop"))),
    ),
    Goal(
        "w3 `map`, 1,000 outstanding: jobs/s / raw sockets in C",
        at_least(0.95, per_contestant("rate", "geartrain-map", "ceiling", "w3/1000")),
    ),
    Goal(
        "w1 `map` in the background: submissions/s / raw sockets in C",
        at_least(0.95, per_contestant("rate", "geartrain-map", "ceiling", "w1/1000")),
    ),
    Goal(
        "w1 awaited `do_background`: submissions/s / raw sockets in C",
        at_least(0.38, per_contestant("rate", "geartrain-do", "ceiling", "w1/1000")),
    ),
    *(
        Goal(
            f"w3 {shown}, {outstanding:,} outstanding: gearmand's CPU per job / with raw sockets in C",
            at_most(1.1, per_contestant("server_cpu", name, "ceiling", f"w3/{outstanding}")),
        )
        for name, shown in _INTERFACES.items()
        for outstanding in _OUTSTANDING
    ),
    Goal(
        "w2 median round trip / libgearman's", at_most(2.1, per_contestant("p50", "geartrain-do", "libgearman", "w2/1"))
    ),
    Goal(
        "w2 median round trip on uvloop / libgearman's",
        at_most(1.1, per_contestant("p50", "geartrain-do-uvloop", "libgearman", "w2/1")),
    ),
    Goal(
        "w4 1 MiB, `do`: MB/s / raw sockets in C",
        at_least(0.9, per_contestant("megabytes", "geartrain-do", "ceiling", "w4/1MiB")),
    ),
    Goal(
        "w4 64 MiB: peak memory above the idle client / workload",
        at_most(3.1, median_of(of("peak", "geartrain-do", "w4/64MiB")), " x"),
    ),
    Goal(
        "w4 64 MiB on uvloop: peak memory above the idle client / workload",
        at_most(2.1, median_of(of("peak", "geartrain-do-uvloop", "w4/64MiB")), " x"),
    ),
    Goal("w5 bytes per outstanding job", at_most(400, median_of(of("job_memory", "geartrain-submit", "w5/100000")))),
    Goal(
        "w6 import time in addition to asyncio's",
        at_most(8, median_of(of("import", "geartrain-do", "w6/first")), " ms"),
    ),
    Goal(
        "w3 `timeout=30` on every job: extra client CPU per job",
        at_most(0.5, difference(of("client_cpu", "geartrain-timeout"), of("client_cpu", "geartrain-do")), " us"),
        at_most(1.2, per_contestant("client_cpu", "geartrain-timeout", "geartrain-do", "w3/1000"), " x"),
    ),
    Goal(
        "w7 worker's CPU per job / Perl's worker",
        at_most(0.25, per_contestant("worker_cpu", "geartrain", "perl", "w7/1000")),
    ),
    Goal(
        "w7 plain function in a thread: worker's CPU per job / pygearman's, Perl's",
        at_most(0.4, per_contestant("worker_cpu", "geartrain-thread-1", "pygearman", "w7/plain")),
        at_most(0.7, per_contestant("worker_cpu", "geartrain-thread-1", "perl", "w7/plain")),
    ),
    Goal(
        "w7 plain function in a process: worker's CPU per job / pygearman's",
        at_most(1.0, per_contestant("worker_cpu", "geartrain-process-1", "pygearman", "w7/plain")),
    ),
    Goal(
        "w7 a lone job of a plain function: p50 / pygearman's",
        at_most(1.0, per_contestant("p50", "geartrain-thread-1", "pygearman", "w7/lone")),
    ),
    Goal(
        "w7 a millisecond of CPU: jobs/s of two processes / of two workers",
        at_least(
            0.9,
            ratio(
                of("rate", "geartrain-process-2-busy", "w7/busy"), of("rate", "geartrain-thread-1-busy", "w7/busy-2")
            ),
        ),
    ),
    Goal(
        "w8 `JobServer`: jobs/s / gear's server", at_least(10, per_contestant("rate", "geartrain", "gear", "w8/1000"))
    ),
    *(
        Goal(
            f"w9 `{interface}`: client CPU per job with 1,000,000 outstanding / with 1,000",
            at_most(
                1.5,
                ratio(
                    of("client_cpu", f"geartrain-{interface}", "w9/1000000-outstanding"),
                    of("client_cpu", f"geartrain-{interface}", "w9/1000-outstanding"),
                ),
            ),
        )
        for interface in ("submit", "map")
    ),
)
