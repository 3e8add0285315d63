"""
Fuzz all targets, one per core at a time: ``python -m tests.fuzz --seconds 60``; ``make fuzz``.

The corpus is kept in ``.fuzz/TARGET/corpus``, and an input that fails in ``.fuzz/TARGET/crash-...``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

FOLDER: Final = Path(".fuzz")
REGRESSIONS: Final = Path(__file__).with_name("regressions")
GRACE: Final = 120  # seconds over its time after which a target is killed; it needs some to load its corpus

_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units: *(\d+)")
_FEATURES: Final = re.compile(r"cov: (\d+) ft: (\d+)")


class Result(NamedTuple):
    """The result of one target."""

    name: str
    executions: int
    branches: int
    features: int
    crashes: list[Path]
    output: str
    status: int | None

    @property
    def failed(self) -> bool:
        return bool(self.crashes) or self.status != 0

    def __str__(self) -> str:
        end = "no crash" if not self.failed else f"FAILED (exit status {self.status})"
        return (
            f"{self.name:20} {self.executions:>10,} executions {self.branches:>6,} branches "
            f"{self.features:>6,} features  {end}"
        )


def write_seeds(name: str) -> Path:
    """Write the seeds of a target to the folder of its corpus, and return that folder."""
    folder = FOLDER / name / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[name]:
        (folder / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    return folder


def fuzz(name: str, seconds: int) -> Result:
    """Run one target for ``seconds``."""
    corpus = [str(write_seeds(name))]
    if (REGRESSIONS / name).is_dir():
        corpus.append(str(REGRESSIONS / name))
    before = set((FOLDER / name).glob("*-*"))
    command = [sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={seconds}", *corpus]
    options = ["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={FOLDER / name}/"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output = process.communicate(timeout=seconds + GRACE)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0].decode("utf-8", "replace")
    executions = _EXECUTIONS.search(output)
    branches, features = next(reversed(_FEATURES.findall(output)), (0, 0))
    crashes = sorted(set((FOLDER / name).glob("*-*")) - before)
    count = int(executions[1]) if executions else 0
    return Result(name, count, int(branches), int(features), crashes, output, process.returncode)


def report(result: Result) -> None:
    """Print the result of one target, and how to reproduce a failure."""
    print(result, flush=True)
    if result.failed:
        print(*(f"    {line}" for line in result.output.splitlines()[-40:]), sep="\n")
    for path in result.crashes:
        print(f"    saved in {path}; reproduce it with: .venv/bin/python -m tests.fuzz.one {result.name} {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status says whether anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = options.targets or list(TARGETS)
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda name: fuzz(name, options.seconds), names):
            report(result)
            failed += result.failed
    print(f"{len(names)} targets, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
