"""
Compare the cost of two revisions, measured in alternating runs: ``python -m benchmarks compare OLD [NEW]``.

OLD and NEW are git revisions, or ``.`` for the working tree; NEW defaults to HEAD. A figure is the median over all
runs, a ratio the median of the ratios within each pair of runs, so that it is valid even if the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import compileall
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.case_runner import measure
from benchmarks.contestants import HERE, ROLES, Contestant, from_source
from benchmarks.peer_setup import compile_programs
from benchmarks.report import table
from benchmarks.workloads import CASES

RUNS: Final = 11
QUICK_RUNS: Final = 3
ROOT: Final = HERE.parent
WORKING_TREE: Final = "."


class Row(NamedTuple):
    """
    One figure that is compared.

    Attributes:
        label: Its name in the table.
        measure: Returns the figure of the revision in this source folder.
        write: The format of the figure.
    """

    label: str
    measure: Callable[[Path], float]
    write: str = "{:.2f}"


def measure_case(source: Path, case_name: str, name: str, figure: str, *, quick: bool) -> float:
    """Return a figure of one of our own contestants, run with the package in ``source``."""
    case = next(case for case in CASES if case.name == case_name)
    contestant = ROLES[case.role][name]
    figures = measure(case, name, quick=quick, contestant=from_source(contestant, source))
    if figures["wrong"]:
        raise SystemExit(f"{case_name} {name}: {figures['wrong']:.0f} wrong answers with {source}")
    return figures[figure]


def measure_start(source: Path, *arguments: str) -> float:
    """Return the milliseconds of CPU that a Python process takes from start to exit."""
    command = from_source(Contestant("", (sys.executable, *arguments)), source).command
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


def make_rows(*, quick: bool) -> list[Row]:
    """Return the figures to compare, in the order of the table."""
    rows = [
        Row(
            f"{interface}, {loop}: client CPU, us/job",
            partial(
                measure_case,
                case_name="w3/1000",
                name=f"geartrain-{interface}{suffix}",
                figure="client_cpu",
                quick=quick,
            ),
        )
        for loop, suffix in (("asyncio", ""), ("uvloop", "-uvloop"))
        for interface in ("do", "submit", "callback", "timeout", "map")
    ]
    cases = (
        ("worker, asyncio: CPU, us/job", "w7/1000", "geartrain", "worker_cpu", "{:.2f}"),
        ("worker, uvloop: CPU, us/job", "w7/1000", "geartrain-uvloop", "worker_cpu", "{:.2f}"),
        ("one job at a time, asyncio: p50, us", "w2/1", "geartrain-do", "p50", "{:.1f}"),
        ("do_background, asyncio: client CPU, us/job", "w1/1000", "geartrain-do", "client_cpu", "{:.2f}"),
        ("outstanding job: bytes", "w5/100000", "geartrain-submit", "job_memory", "{:.0f}"),
    )
    for label, case, name, figure, write in cases:
        measured = partial(measure_case, case_name=case, name=name, figure=figure, quick=quick)
        rows.append(Row(label, measured, write))
    for label, arguments in (
        ("python -c 'import asyncio': CPU, ms", ("-c", "import asyncio")),
        ("python -c 'import geartrain': CPU, ms", ("-c", "import geartrain")),
        ("python -c 'from geartrain import Client': CPU, ms", ("-c", "from geartrain import Client")),
        ("geartrain --version: CPU, ms", ("-m", "geartrain", "--version")),
        ("geartrain --help: CPU, ms", ("-m", "geartrain", "--help")),
    ):
        rows.append(Row(label, lambda source, arguments=arguments: measure_start(source, *arguments), "{:.1f}"))  # type: ignore[misc]
    return rows


def check_out(revision: str, folder: Path) -> Path:
    """Return the source folder of a revision, unpacked below ``folder`` and compiled to bytecode."""
    if revision == WORKING_TREE:
        source = ROOT / "src"
    else:
        folder.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", revision, "src"], check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], check=True, input=archive.stdout)
        source = folder / "src"
    compileall.compile_dir(source, quiet=1)
    return source


def compare(rows: Sequence[Row], old: Path, new: Path, runs: int) -> list[tuple[str, ...]]:
    """Measure each row ``runs`` times with both, in alternating order."""
    figures: dict[str, list[tuple[float, float]]] = {row.label: [] for row in rows}
    for run in range(runs):
        for row in rows:
            began = time.monotonic()
            if run % 2:
                after = row.measure(new)
                before = row.measure(old)
            else:
                before = row.measure(old)
                after = row.measure(new)
            figures[row.label].append((before, after))
            outcome = f"{row.write.format(before)} {row.write.format(after)} ({time.monotonic() - began:.1f} s)"
            print(f"{run + 1}/{runs} {row.label}: {outcome}", file=sys.stderr)
    return [describe_row(row, figures[row.label]) for row in rows]


def describe_row(row: Row, pairs: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    """Return a row of the table: the medians of both, and the median of the ratios."""
    before, after = zip(*pairs, strict=True)
    ratios = [new / old for old, new in pairs if old]
    return (
        row.label,
        row.write.format(median(before)),
        row.write.format(median(after)),
        f"{median(ratios):.3f}" if ratios else "",
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", help="a revision, or . for the working tree")
    parser.add_argument("new", nargs="?", default="HEAD", help="the same; default HEAD")
    parser.add_argument(
        "--only", default="*", help="rows by their labels, with semicolons and wildcards: 'do,*;worker*'"
    )
    parser.add_argument("--runs", type=int, default=0, help=f"default {RUNS}, or {QUICK_RUNS} with --quick")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    options = parser.parse_args(arguments)
    rows = [
        row
        for row in make_rows(quick=options.quick)
        if any(fnmatch(row.label, pattern.strip()) for pattern in options.only.split(";"))
    ]
    if not rows:
        raise SystemExit(f"no row matches {options.only!r}")
    compile_programs()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geartrain-compare-")))
        old, new = check_out(options.old, folder / "old"), check_out(options.new, folder / "new")
        runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
        lines = compare(rows, old, new, runs)
    print("\n".join(table(("figure", options.old, options.new, "ratio"), lines)))
