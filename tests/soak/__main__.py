"""Check that nothing grows under steady load with faults: ``python -m tests.soak --seconds 600``; ``make soak``."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.soak.samples import growing
from tests.soak.soak import Soak

SHOWN = 20  # errors


def main() -> int:
    """Run the command; the exit status is 0 if nothing grew, all results were right, and everything was closed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the load runs (default: %(default)s)")
    parser.add_argument("--seed", default="", help="decides the load and the faults, but not their exact timing")
    parser.add_argument("--plot", type=Path, help="draw the samples into this file; needs matplotlib")
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    with tempfile.TemporaryDirectory(prefix="geartrain-soak-") as directory:
        soak = Soak(options.seconds, seed, Path(directory))
        asyncio.run(soak.run(lambda: show_progress(soak)))
    title = f"{options.seconds:g} s, {soak.load.done.total():,} actions, {len(soak.faults)} faults, seed {seed}"
    if options.plot is not None:
        from tests.soak.plot import draw  # only --plot needs matplotlib

        draw(soak.samples, soak.faults, title, options.plot)
        print(f"drawn into {options.plot}")
    wrong = [*growing(soak.samples), *(f"left at the end: {what}" for what in soak.left), *soak.load.wrong]
    print(f"\n{title}")
    for heading, counts in (
        ("done", soak.load.done),
        ("ended by faults", soak.load.errors),
        ("faults", Counter(name for _, name in soak.faults)),
    ):
        print(f"{heading}: {', '.join(f'{count:,} {name}' for name, count in counts.most_common())}")
    print(*wrong[:SHOWN], sep="\n")
    print(f"{len(wrong)} things went wrong" if wrong else "all measures flat, all results right, nothing left")
    return 1 if wrong else 0


def show_progress(soak: Soak) -> None:
    """Print a progress bar, updated in place on a terminal, otherwise on a new line for each tenth."""
    sample, done = soak.samples[-1], soak.load.done.total()
    share = min(sample.seconds / soak.seconds, 1.0)
    line = (
        f"{'#' * int(30 * share):30} {sample.seconds:.0f} s, {done:,} actions, {len(soak.faults)} faults, "
        f"{sample.resident // 2**20} MiB, {sample.descriptors} descriptors, {sample.tasks} tasks"
    )
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif len(soak.samples) == 1 or int(share * 10) != int(soak.samples[-2].seconds / soak.seconds * 10):
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
