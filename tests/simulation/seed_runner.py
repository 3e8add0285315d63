"""Runs many seeds on several cores."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.world import World

BLOCK = 50  # seeds that a process runs before it reports
CALM_EVERY = 5  # one in five seeds is also run without faults: only then the expected end of each job is known


class Failure(NamedTuple):
    """A run that broke a promise."""

    seed: int
    faults: bool
    story: list[str]


class Coverage:
    """How often each event of interest has occurred."""

    def __init__(self) -> None:
        self.runs = 0
        self.runs_with: Counter[str] = Counter()
        self.times: Counter[str] = Counter()

    def add(self, world: World) -> None:
        """Add the events of one run."""
        self.runs += 1
        self.runs_with.update(world.occurred.keys())
        self.times += world.occurred

    def merge(self, other: Coverage) -> None:
        """Add the events of other runs."""
        self.runs += other.runs
        self.runs_with += other.runs_with
        self.times += other.times

    def __str__(self) -> str:
        heading = f"{'Event':36} {'Runs':>6} {'Times':>12}"
        rows = [
            f"{event:36} {self.runs_with[event] / self.runs:6.0%} {times:12,}"
            for event, times in sorted(self.times.items())
        ]
        return "\n".join([heading, *rows])


def run(seed: int, coverage: Coverage, *, faults: bool) -> Failure | None:
    """Run one seed; return the failure if a promise was broken."""
    world = World(seed, faults=faults)
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  # any exception is a failure
        return Failure(seed, faults, [*world.history, f"{world.loop.time():10.4f} {type(error).__name__}: {error}"])
    finally:
        coverage.add(world)
    return None


def run_block(seeds: range) -> tuple[list[Failure], Coverage]:
    """Run a block of seeds, and each fifth of them also without faults; return the failures and the coverage."""
    logging.disable(logging.CRITICAL)
    coverage = Coverage()
    runs = [(seed, True) for seed in seeds] + [(seed, False) for seed in seeds if seed % CALM_EVERY == 0]
    failures = [run(seed, coverage, faults=faults) for seed, faults in runs]
    return [failure for failure in failures if failure is not None], coverage


def show_progress(done: int, seeds: int, begun: float) -> None:
    """Print a progress bar, updated in place on a terminal, otherwise on a new line for each tenth."""
    rate = done / max(time.monotonic() - begun, 1e-9)
    line = f"{'#' * (30 * done // seeds):30} {done:,} of {seeds:,} seeds, {rate:.0f} per second"
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
    elif done * 10 // seeds != (done - BLOCK) * 10 // seeds:
        print(line, file=sys.stderr, flush=True)


def run_all(first: int, seeds: int, processes: int | None) -> Iterator[tuple[list[Failure], Coverage]]:
    """Run all seeds in ``processes`` processes, by default one for each core; yield the outcome of each block."""
    begun = time.monotonic()
    end = first + seeds
    blocks = [range(begin, min(begin + BLOCK, end)) for begin in range(first, end, BLOCK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, result in enumerate(pool.imap_unordered(run_block, blocks), 1):
            yield result
            show_progress(min(number * BLOCK, seeds), seeds, begun)
    if sys.stderr.isatty():
        print(file=sys.stderr)
