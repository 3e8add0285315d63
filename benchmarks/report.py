"""The report: figures, goals, machine, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from benchmarks.contestants import ROLES
from benchmarks.goals import GOALS, Bound, Goal
from benchmarks.results import Results
from benchmarks.workloads import CASES, TITLES, Case


class Column(NamedTuple):
    """A column of figures: its heading, the figure, its format, and the cases in which it is shown."""

    head: str
    figure: str
    write: str
    shown: Callable[[Case], bool]


def _many(case: Case) -> bool:
    return case.kind in ("foreground", "background") and case.size < 1000


COLUMNS: Final = (
    Column("jobs/s", "rate", "{:,.0f}", _many),
    Column("client CPU, us/job", "client_cpu", "{:.2f}", lambda case: case.role == "client" and _many(case)),
    Column("worker CPU, us/job", "worker_cpu", "{:.2f}", lambda case: case.role == "worker"),
    Column("job server CPU, us/job", "server_cpu", "{:.2f}", _many),
    Column("p50, us", "p50", "{:.0f}", lambda case: case.kind == "latency"),
    Column("p99, us", "p99", "{:.0f}", lambda case: case.kind == "latency"),
    Column("client CPU, us/job", "client_cpu", "{:.1f}", lambda case: case.kind == "latency"),
    Column("MB/s", "megabytes", "{:,.0f}", lambda case: case.size > 1000),
    Column("peak / workload", "peak", "{:.2f}", lambda case: case.size > 10_000_000),
    Column("bytes per job", "job_memory", "{:,.0f}", lambda case: case.kind == "hold"),
    Column("connect to first result, ms", "first", "{:.2f}", lambda case: case.kind == "first"),
    Column("import, ms", "import", "{:.1f}", lambda case: case.kind == "first"),
)


def write_report(results: Results, plots: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """Return the report of all workloads for which there are results, with the plots of each workload."""
    return "\n".join((*_head(), *_goals(results), *_workloads(results, plots), *_machine(results), ""))


def _head() -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "This page compares geartrain with raw sockets in C and with every other client, worker and job server, and"
    yield "shows which of its goals it meets. `make bench` writes it;"
    yield "`benchmarks/README.md` in the repository describes the measurements."
    yield ""
    yield "Figures are medians of interleaved runs, each with a fresh job server. Absolute figures vary between"
    yield "machines; ratios are stable. `us` is microseconds."
    yield ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


# Goals.


def _goals(results: Results) -> Iterator[str]:
    rows = [row for goal in GOALS if (row := _goal(goal, results))]
    if rows:
        yield "## Goals"
        yield ""
        yield "A ratio is the median of the ratios of all repetitions."
        yield ""
        yield from table(("figure", "goal", "measured", "met"), rows)


def _goal(goal: Goal, results: Results) -> tuple[str, ...] | None:
    """Return a row, or ``None`` if nothing of it was measured."""
    values = [(bound, value) for bound in goal.bounds if (value := bound.measure(results)) is not None]
    if not values:
        return None
    met = any(bound.is_met(value) for bound, value in values)
    limits = " or ".join(f"{_sign(bound)} {bound.limit:g}{bound.unit}" for bound, _ in values)
    measured = ", ".join(f"{value:.2f}{bound.unit}" for bound, value in values)
    return goal.text, limits, measured, "yes" if met else "**no**"


def _sign(bound: Bound) -> str:
    return ">=" if bound.least else "<="


# Figures.


def _workloads(results: Results, plots: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for workload, title in TITLES.items():
        cases = [case for case in CASES if case.workload == workload and _measured(case, results)]
        if cases:
            yield f"## {workload}: {title}"
            yield ""
            for plot in plots.get(workload, ()):
                yield f"![{title}]({plot})"
                yield ""
        for case in cases:
            yield f"{case.title}:"
            yield ""
            columns = [column for column in COLUMNS if column.shown(case)]
            yield from table(
                (case.role, *(column.head for column in columns), "runs", ""),
                (_row(case, name, columns, results) for name in case.contestants if _has(case, name, results)),
            )


def _measured(case: Case, results: Results) -> bool:
    return any(_has(case, name, results) for name in case.contestants)


def _has(case: Case, name: str, results: Results) -> bool:
    return name in results.failures.get(case.name, {}) or bool(results.runs(case.name, name))


def _row(case: Case, name: str, columns: Sequence[Column], results: Results) -> tuple[str, ...]:
    values = [results.median(case.name, name, column.figure) for column in columns]
    written = [
        column.write.format(value) if value is not None else "" for column, value in zip(columns, values, strict=True)
    ]
    runs = len(results.runs(case.name, name))
    return ROLES[case.role][name].label, *written, str(runs), _remark(case, name, results)


def _remark(case: Case, name: str, results: Results) -> str:
    """Return a remark if a contestant failed or returned wrong results."""
    failure = results.failures.get(case.name, {}).get(name)
    if failure:
        return failure.replace("|", "\\|")
    wrong, jobs = results.wrong(case.name, name)
    return f"**{wrong:,} of {jobs:,} answers wrong**" if wrong else ""


# The machine.


def _machine(results: Results) -> Iterator[str]:
    yield "## Machine and versions"
    yield ""
    for about in results.distinct_machines():
        measured = ", ".join(sorted(workload for workload, of_it in results.about.items() if of_it == about))
        versions = ", ".join(f"{part} {version}" for part, version in about["versions"].items())
        quick = ", with a tenth of the jobs only," if about["quick"] else ""
        yield f"- {measured}: begun{quick} at {about['time']} on {about['cores']} cores of {about['processor']},"
        yield f"  {about['memory'] / 2**30:.0f} GiB, {about['system']}, with a load of {about['load']:.2f} before;"
        yield f"  {versions}."
