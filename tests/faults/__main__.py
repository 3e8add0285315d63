"""Jobs under real faults: ``python -m tests.faults --seconds 60``; ``make faults SECONDS=60 SEED=again``."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.judge import Judge
from tests.faults.run import Outcome, Run

JOBS_PER_MINUTE = 20_000
SHOWN = 20  # broken promises


def main() -> int:
    """Run the command; the exit status says whether all promises were kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to inject faults (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help=f"how many to submit (default: {JOBS_PER_MINUTE:,} a minute)")
    parser.add_argument("--seed", default="", help="decides the jobs and the faults, but not their exact timing")
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    jobs = options.jobs or round(options.seconds * JOBS_PER_MINUTE / 60)
    with tempfile.TemporaryDirectory(prefix="geartrain-faults-") as directory:
        outcome = asyncio.run(watch(seed, jobs, options.seconds, Path(directory)))
    broken = Judge(outcome).judge()
    print(describe(outcome))
    for message in broken[:SHOWN]:
        print(f"  {message}")
    print(f"seed {seed}: {len(broken):,} promises were broken")
    return 1 if broken else 0


async def watch(seed: str, jobs: int, seconds: float, directory: Path) -> Outcome:
    """Run it, and draw a progress bar."""
    run = Run(seed, jobs=jobs, seconds=seconds, directory=directory)
    running = asyncio.create_task(run.run())
    interval = 0.2 if sys.stderr.isatty() else seconds / 6
    while not running.done():
        await asyncio.wait([running], timeout=interval)
        bar = "#" * (30 * run.ended // jobs)
        line = f"{bar:30} {run.ended:,} of {jobs:,} jobs have ended, {len(run.outcome.faults)} faults"
        print(f"\r{line}" if sys.stderr.isatty() else line, end="", file=sys.stderr)
        print(end="" if sys.stderr.isatty() and not running.done() else "\n", file=sys.stderr, flush=True)
    return await running


def describe(outcome: Outcome) -> str:
    """Return how the jobs ended, how often they ran, and which faults there were."""
    ends: Counter[str] = Counter()
    for record in outcome.jobs:
        job = record.job
        if job is None or not job.done():
            ends["not ended"] += 1
        elif job.cancelled():
            ends["cancelled"] += 1
        else:
            ends["completed" if (error := job.exception()) is None else type(error).__name__] += 1
    runs = sum(count for (what, _), count in outcome.ran.items() if what == "began")
    faults = Counter(fault.name for fault in outcome.faults)
    return (
        f"{len(outcome.jobs):,} jobs in {outcome.seconds:.0f} s, {outcome.retries:,} retries, {runs:,} runs\n"
        f"  {_list(ends)}\n{len(outcome.faults)} faults\n  {_list(faults)}"
    )


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
