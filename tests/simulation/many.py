"""Runs many seeds on all cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulation.world import World

BLOCK = 50  # seeds that a process runs before it reports


def run(seed: int, *, faults: bool) -> list[str] | None:
    """Run one seed; return what happened if a promise was broken."""
    world = World(seed, faults=faults)
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the find
        return [*world.history, f"{world.loop.time():10.4f} {type(error).__name__}: {error}"]
    return None


def run_block(first: int) -> list[tuple[int, bool, list[str]]]:
    """Run a block of seeds, and two of them without faults too; return those that broke a promise."""
    logging.disable(logging.CRITICAL)
    runs = [(seed, True) for seed in range(first, first + BLOCK)] + [(first, False), (first + BLOCK // 2, False)]
    stories = [(seed, faults, run(seed, faults=faults)) for seed, faults in runs]
    return [(seed, faults, story) for seed, faults, story in stories if story is not None]


def show_progress(done: int, seeds: int, begun: float) -> None:
    """Draw the bar, on a terminal over and over, else a line every tenth."""
    rate = done / max(time.monotonic() - begun, 1e-9)
    line = f"{'#' * (30 * done // seeds):30} {done:,} of {seeds:,} seeds, {rate:.0f} per second"
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
    elif done * 10 // seeds != (done - BLOCK) * 10 // seeds:
        print(line, file=sys.stderr, flush=True)


def run_all(first: int, seeds: int) -> Iterator[tuple[int, bool, list[str]]]:
    """Run all seeds on all cores; give those that broke a promise as they are found."""
    begun = time.monotonic()
    blocks = range(first, first + seeds, BLOCK)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for number, found in enumerate(pool.imap_unordered(run_block, blocks), 1):
            yield from found
            show_progress(min(number * BLOCK, seeds), seeds, begun)
    if sys.stderr.isatty():
        print(file=sys.stderr)
