"""The plots: bars for each workload, and two curves. They are drawn from the same results as the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.contestants import ROLES, Contestant
from benchmarks.results import Results
from benchmarks.workloads import CASES, PEERS, Case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS: Final = "#2a6fbb"
CEILING: Final = "#444444"
PEER: Final = "#b5b5b5"
WIDTH: Final = 8.0  # inches
BAR: Final = 0.27


class Bars(NamedTuple):
    """A plot of bars: a figure of a case, its format and title, and whether more or less is better."""

    file: str
    case: str
    figure: str
    write: str
    title: str
    better: str


MORE: Final = "more is better"
LESS: Final = "less is better"

BARS: Final = (
    Bars("w1", "w1/1000", "rate", "{:,.0f}", "Background submissions a second", MORE),
    Bars("w2", "w2/1", "p50", "{:,.0f}", "One job at a time on one core: median, in microseconds", LESS),
    Bars("w3-cpu", "w3/1000", "client_cpu", "{:.2f}", "Client CPU with 1,000 outstanding, in microseconds a job", LESS),
    Bars("w3-rate", "w3/1000", "rate", "{:,.0f}", "Jobs a second with 1,000 outstanding", MORE),
    Bars("w4", "w4/1MiB", "megabytes", "{:,.0f}", "1 MiB there and back: MB a second", MORE),
    Bars("w4-peak", "w4/64MiB", "peak", "{:.1f}", "64 MiB there and back: peak memory in workloads", LESS),
    Bars("w5", "w5/100000", "job_memory", "{:,.0f}", "Memory of a job that is outstanding, in bytes", LESS),
    Bars("w6", "w6/first", "first", "{:.2f}", "From connecting to the first result, in milliseconds", LESS),
    Bars("w7", "w7/1000", "worker_cpu", "{:.2f}", "Worker CPU, in microseconds a job", LESS),
    Bars("w8", "w8/1000", "rate", "{:,.0f}", "Jobs a second through a job server", MORE),
)


class Curves(NamedTuple):
    """A plot of curves: a figure over the number of outstanding jobs."""

    file: str
    cases: tuple[str, ...]
    contestants: tuple[str, ...]
    figure: str
    label: str
    title: str


CURVES: Final = (
    Curves(
        "outstanding",
        tuple(case.name for case in CASES if case.name.split("/")[1].isdigit() and case.workload == "w3"),
        ("geartrain-do", "geartrain-do-uvloop", "geartrain-map", "geartrain-map-uvloop", *PEERS),
        "rate",
        "jobs a second",
        "Throughput over the number of jobs outstanding",
    ),
    Curves(
        "growth",
        tuple(case.name for case in CASES if case.name.startswith("w9/") and case.name.endswith("-outstanding")),
        ("geartrain-submit", "geartrain-submit-uvloop", "geartrain-map", "geartrain-map-uvloop", "ceiling"),
        "client_cpu",
        "client CPU, microseconds a job",
        "Cost over the length of the queue",
    ),
)

# A contestant without its event loop -> colour and mark of its curve. The curves of uvloop are dashed.
STYLES: Final = {
    "geartrain-do": (OURS, "o"),
    "geartrain-submit": (OURS, "o"),
    "geartrain-map": ("#d9662b", "o"),
    "ceiling": (CEILING, "s"),
    "libgearman": ("#7b9e6b", "^"),
    "perl": (PEER, "v"),
    "gear": (PEER, "D"),
    "aiogear": (PEER, "x"),
    "pygearman": (PEER, "P"),
}


def draw(results: Results, folder: Path) -> dict[str, list[str]]:
    """
    Write the plots for which there are results.

    Returns:
        The names of the files, by workload.
    """
    import matplotlib as mpl  # slow to import, and not needed for measuring

    mpl.rcParams["svg.hashsalt"] = "geartrain"  # the same figures give the same file
    drawn: dict[str, list[str]] = {}
    for bars in BARS:
        if rows := list(_rows(bars, results)):
            drawn.setdefault(bars.case.split("/")[0], []).append(f"{bars.file}.svg")
            _draw_bars(bars, rows, folder / f"{bars.file}.svg")
    for curves in CURVES:
        if any(results.figures.get(case) for case in curves.cases):
            drawn.setdefault(curves.cases[0].split("/")[0], []).append(f"{curves.file}.svg")
            _draw_curves(curves, results, folder / f"{curves.file}.svg")
    return drawn


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def _rows(bars: Bars, results: Results) -> Iterator[tuple[Contestant, float]]:
    case = _case(bars.case)
    for name in case.contestants:
        value = results.median(case.name, name, bars.figure)
        if value is not None:
            yield ROLES[case.role][name], value


def _colour(label: str) -> str:
    if label.startswith("geartrain"):
        return OURS
    return CEILING if label.startswith("raw") else PEER


def _draw_bars(bars: Bars, rows: Sequence[tuple[Contestant, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row[1], reverse=bars.better == LESS)
    figure = Figure(figsize=(WIDTH, BAR * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots()
    labels = [contestant.label.replace("`", "") for contestant, _ in rows]
    drawn = axes.barh(labels, [value for _, value in rows], color=[_colour(label) for label in labels])
    axes.bar_label(drawn, labels=[bars.write.format(value) for _, value in rows], padding=4, fontsize=8)
    axes.set_title(f"{bars.title} ({bars.better})", fontsize=10, loc="left")
    axes.margins(x=0.12, y=0.01)
    axes.xaxis.set_visible(False)
    _save(figure, axes, path)


def _draw_curves(curves: Curves, results: Results, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.subplots()
    for name in curves.contestants:
        points = [
            (_case(case).outstanding, value)
            for case in curves.cases
            if (value := results.median(case, name, curves.figure)) is not None
        ]
        if points:
            label = ROLES["client"][name].label.replace("`", "")
            dashes = "--" if name.endswith("-uvloop") else "-"
            colour, mark = STYLES[name.removesuffix("-uvloop")]
            axes.plot(*zip(*points, strict=True), dashes, color=colour, marker=mark, markersize=4, label=label)
    axes.set_xscale("log")
    if curves.figure == "rate":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("jobs outstanding")
    axes.set_ylabel(curves.label)
    axes.set_title(curves.title, fontsize=10, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _save(figure, axes, path)


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    figure.savefig(path, metadata={"Date": None})
