"""Measure: ``make bench``, or ``python -m benchmarks``. README.md says how the figures come about."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.contestants import BUILD, HERE
from benchmarks.machine import describe
from benchmarks.peers import compile_programs, provide_peers
from benchmarks.report import write_report
from benchmarks.results import Results
from benchmarks.running import measure
from benchmarks.workloads import CASES, Case

REPETITIONS: Final = 5
PUBLISHED: Final = HERE.parent / "docs" / "benchmarks"
UNPUBLISHED: Final = BUILD / "results"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", default="*", help="workloads or cases, with commas and wildcards: w3, w3/1000, w[12]")
    parser.add_argument("--clients", default="*", help="contestants, with commas and wildcards: ceiling,geartrain-*")
    parser.add_argument("--repetitions", type=int, default=0, help=f"{REPETITIONS}, or 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--output", type=Path, help="where to write; docs/benchmarks if nothing is left out")
    parser.add_argument("--no-peers", action="store_true", help="do not install Python's peers")
    return parser.parse_args()


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split(","))


def choose(only: str, contestants: str) -> list[Case]:
    """Return the cases that are asked for, with the contestants that are asked for."""
    chosen = []
    for case in CASES:
        if matches(case.name, only) or matches(case.workload, only):
            names = tuple(name for name in case.contestants if matches(name, contestants))
            if names:
                chosen.append(case._replace(contestants=names))
    return chosen


def run(cases: Sequence[Case], repetitions: int, *, quick: bool) -> Results:
    """Each repetition goes through all cases and contestants, so that what disturbs the machine disturbs all alike."""
    results = Results(dict.fromkeys((case.workload for case in cases), describe()))
    for repetition in range(1, repetitions + 1):
        for case in cases:
            for _ in range(case.runs):
                for name in case.contestants:
                    said = results.add(case.name, name, partial(measure, case, name, quick=quick))
                    print(f"{repetition}/{repetitions} {case.name:14} {name:26} {said}", file=sys.stderr)
    return results


def allow_many_files() -> None:
    """Job servers take their limit from who starts them, and one of them gets 1,000 clients."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    arguments = parse_arguments()
    cases = choose(arguments.only, arguments.clients)
    if not cases:
        raise SystemExit("there is no such workload, or it has no such contestant")
    allow_many_files()
    compile_programs()
    if not arguments.no_peers:
        provide_peers()
    # What was measured in haste or in part is of use to who measured it, but is not for the documentation.
    whole = not arguments.quick and arguments.clients == "*" and "/" not in arguments.only
    output: Path = arguments.output or (PUBLISHED if whole else UNPUBLISHED)
    output.mkdir(parents=True, exist_ok=True)
    results = run(cases, arguments.repetitions or (3 if arguments.quick else REPETITIONS), quick=arguments.quick)
    results.write(output)
    print(write_report(results))
    kept = write_report(Results.read(sorted(output.glob("w*.json"))))
    (output / "README.md").write_text(kept)


if __name__ == "__main__":
    main()
