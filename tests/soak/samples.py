"""The measures of a soak, and the limits within which they are flat."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


MOST: Final = 100  # outstanding jobs of one map; in an outage each of them may have a timer


class Sample(NamedTuple):
    """
    The measures of the process at one time.

    Attributes:
        seconds: Since the beginning.
        resident: Resident memory in bytes.
        blocks: Blocks of memory that Python has allocated.
        objects: Objects that Python's garbage collector tracks.
        descriptors: Open files and sockets.
        tasks: asyncio's tasks.
        timers: Timers of the loop that are set.
    """

    seconds: float
    resident: int
    blocks: int
    objects: int
    descriptors: int
    tasks: int
    timers: int


class Measure(NamedTuple):
    """
    The limits within which a measure is flat.

    Attributes:
        title: Its title in messages and plots.
        unit: The divisor of its values in messages and plots.
        share: How much it may grow, relative to its value.
        more: How much it may grow in addition.
    """

    title: str
    unit: int
    share: float
    more: int


MEASURES: Final[Mapping[str, Measure]] = {
    "resident": Measure("resident memory, MiB", 1024 * 1024, 0.05, 8 * 1024 * 1024),
    "blocks": Measure("blocks allocated, thousands", 1000, 0.05, 5_000),
    "objects": Measure("objects of the garbage collector, thousands", 1000, 0.05, 2_500),
    "descriptors": Measure("file descriptors", 1, 0.0, 25),
    "tasks": Measure("asyncio tasks", 1, 0.0, 25),
    "timers": Measure("timers", 1, 0.0, 25 + MOST),
}
"""The load is constant, so only faults may change the numbers of descriptors, tasks and timers."""


def take(seconds: float) -> Sample:
    """Take a sample of this process and its running loop."""
    gc.collect()
    return Sample(
        seconds=seconds,
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        blocks=sys.getallocatedblocks(),
        objects=len(gc.get_objects()),
        descriptors=len(os.listdir("/proc/self/fd")),
        tasks=len(asyncio.all_tasks()),
        timers=len(timers()),
    )


def timers() -> list[asyncio.TimerHandle]:
    """Return the timers that are set in the running loop."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]


def fifth(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    """Return a fifth of the samples, counted from 1."""
    size = len(samples) / 5
    return samples[round(size * (number - 1)) : round(size * number)]


def medians(samples: Sequence[Sample], name: str) -> tuple[float, float]:
    """Return the medians of the second fifth, when all actions have been done once, and of the last fifth."""
    early, late = (median(getattr(sample, name) for sample in fifth(samples, number)) for number in (2, 5))
    return early, late


def growing(samples: Sequence[Sample]) -> list[str]:
    """Return a sentence for each measure that is not flat."""
    found = []
    for name, measure in MEASURES.items():
        early, late = medians(samples, name)
        most = early * (1 + measure.share) + measure.more
        if late > most:
            numbers = (f"{value / measure.unit:,.1f}" for value in (early, late, most))
            found.append("{} grew from {} to {}; the limit is {}".format(measure.title, *numbers))
    return found
