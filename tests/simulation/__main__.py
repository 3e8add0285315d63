"""Run many seeds: ``python -m tests.simulation --seeds 100000``; ``make simulate SEEDS=100000``."""

from __future__ import annotations

import argparse
import logging
import sys

from tests.simulation.seed_runner import Coverage, run_all
from tests.simulation.world import World


def main() -> int:
    """Run the command; the exit status says whether all promises were kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--processes", type=int, help="how many to run them in (default: one for each core)")
    parser.add_argument("--story", type=int, metavar="SEED", help="run only this seed and print its history")
    parser.add_argument("--calm", action="store_true", help="with --story: without faults")
    options = parser.parse_args()
    if options.story is not None:
        logging.disable(logging.CRITICAL)
        world = World(options.story, faults=not options.calm)
        try:
            world.run()
        finally:
            print("\n".join(world.history))
        return 0
    broken, coverage = 0, Coverage()
    for failures, occurred in run_all(options.first, options.seeds, options.processes):
        coverage.merge(occurred)
        for failure in failures:
            broken += 1
            arguments = f"{failure.seed}{'' if failure.faults else ' --calm'}"
            print(f"\nseed {arguments}:", *failure.story, sep="\n", flush=True)
    print(f"\n{coverage}\n\n{options.seeds:,} seeds in {coverage.runs:,} runs, {broken} of which broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
