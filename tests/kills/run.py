"""Kill processes at each point of a job: ``make kills COUNT=10000``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import tests.kills.points  # noqa: F401  # processes import the main module, and become vulnerable by that


def main() -> int:
    from tests.kills.campaign import run_campaign  # not needed in the processes

    parser = argparse.ArgumentParser(prog="python -m tests.kills.run", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", default="0")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        ends, errors = asyncio.run(run_campaign(arguments.count, Path(directory), arguments.seed))
    for (point, end), times in sorted(ends.items()):
        print(f"{times:6} killed {point}: {end}")
    print(f"{sum(ends.values())} jobs in {time.monotonic() - began:.0f} s, {len(errors)} errors")
    for error in errors[:50]:
        print(error)
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
