"""Run the benchmarks: ``make bench``, or ``python -m benchmarks``. README.md describes the measurements."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import compare, parsers
from benchmarks.case_runner import Figures, measure
from benchmarks.contestants import BUILD, DEFAULT_NAMES, HERE
from benchmarks.machine import describe
from benchmarks.peer_setup import compile_package, compile_programs, provide_peers
from benchmarks.plots import draw
from benchmarks.report import write_report
from benchmarks.results import Results
from benchmarks.workloads import CASES, Case

REPETITIONS: Final = 5
QUICK_REPETITIONS: Final = 3
PUBLISHED: Final = HERE.parent / "docs" / "benchmarks"
UNPUBLISHED: Final = BUILD / "results"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", default="*", help="workloads or cases, with commas and wildcards: w3, w3/1000, w[12]")
    parser.add_argument("--clients", default="*", help="contestants, with commas and wildcards: ceiling,geartrain-*")
    parser.add_argument(
        "--repetitions", type=int, default=0, help=f"{REPETITIONS}, or {QUICK_REPETITIONS} with --quick"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--output", type=Path, help="output folder (default: docs/benchmarks for complete runs)")
    parser.add_argument(
        "--no-peers", dest="peers", action="store_false", help="do not install the other Python clients"
    )
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="draw no plots, which need matplotlib")
    return parser.parse_args()


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split(","))


def choose(only: str, contestants: str) -> list[Case]:
    """Return the chosen cases with the chosen contestants."""
    chosen = []
    for case in CASES:
        if matches(case.name, only) or matches(case.workload, only):
            names = tuple(name for name in case.contestants if matches(name, contestants))
            if names:
                chosen.append(case._replace(contestants=names))
    return chosen


def run(cases: Sequence[Case], repetitions: int, output: Path, *, quick: bool) -> Results:
    """Run all cases and contestants in each repetition, so that a disturbance of the machine affects all of them."""
    about = {**describe(), "quick": quick}
    results = Results(dict.fromkeys((case.workload for case in cases), about))
    turns = [(case, name) for case in cases for _ in range(case.runs) for name in case.contestants] * repetitions
    for number, (case, name) in enumerate(turns, 1):
        figures = results.add(case.name, name, partial(measure, case, name, quick=quick))
        outcome = results.failures[case.name][name] if figures is None else describe_run(case, figures)
        print(f"{number:4}/{len(turns)} {case.name:22} {name:32} {outcome}", file=sys.stderr)
        if number % (len(turns) // repetitions) == 0:
            results.write(output)  # the run may be interrupted
    return results


def describe_run(case: Case, figures: Figures) -> str:
    return f"{figures['rate']:12,.0f} jobs/s {figures[f'{case.role}_cpu']:10.2f} us/job of the {case.role}"


def find_faults(results: Results, cases: Sequence[Case]) -> list[str]:
    """Return the failures of geartrain and of the default contestants; the failures of others are results."""
    faults = []
    for case in cases:
        for name in case.contestants:
            if name in DEFAULT_NAMES or name.startswith("geartrain"):
                wrong, _ = results.wrong(case.name, name)
                failure = results.failures.get(case.name, {}).get(name)
                if failure or wrong:
                    faults.append(f"{case.name} {name}: {failure or f'{wrong} answers wrong'}")
    return faults


def allow_many_files() -> None:
    """Raise the limit of open files, which job servers inherit: one of them gets 1,000 clients."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    if sys.argv[1:2] == ["compare"]:
        allow_many_files()
        compare.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["parsers"]:
        parsers.main()
        return
    arguments = parse_arguments()
    cases = choose(arguments.only, arguments.clients)
    if not cases:
        raise SystemExit("no such workload, or it has no such contestant")
    allow_many_files()
    compile_programs()
    compile_package()
    if arguments.peers:
        provide_peers()
    # Quick and partial runs are not for the documentation.
    repetitions = arguments.repetitions or (QUICK_REPETITIONS if arguments.quick else REPETITIONS)
    whole = (
        repetitions >= REPETITIONS and not arguments.quick and arguments.clients == "*" and "/" not in arguments.only
    )
    output: Path = arguments.output or (PUBLISHED if whole else UNPUBLISHED)
    output.mkdir(parents=True, exist_ok=True)
    results = run(cases, repetitions, output, quick=arguments.quick)
    print(write_report(results), end="")
    # The report includes workloads that were measured at another time.
    kept = Results.read(sorted(output.glob("w*.json")))
    plots = draw(kept, output) if arguments.plots else {}
    (output / "README.md").write_text(write_report(kept, plots))
    if faults := find_faults(results, cases):
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
