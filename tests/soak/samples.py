"""What is measured in a soak, and when it is called flat."""

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


MOST: Final = 100  # jobs outstanding of one map; in an outage each of them may have a timer


class Sample(NamedTuple):
    """
    One look at the process.

    Attributes:
        seconds: Since the beginning.
        resident: Bytes of memory that the process occupies.
        blocks: Pieces of memory that Python has allocated.
        objects: Those of them that Python's garbage collector knows.
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
    What of a sample is to be flat.

    Attributes:
        title: For people.
        unit: What the numbers are divided by for them.
        share: By which part of itself it may grow.
        more: By how much it may grow besides.
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
"""The load is the same all the time: descriptors, tasks and timers may differ only by what faults do to it."""


def take(seconds: float) -> Sample:
    """Look at this process, in its running loop."""
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
    """Return the medians of the second fifth, when everything has been used once, and of the last one."""
    early, late = (median(getattr(sample, name) for sample in fifth(samples, number)) for number in (2, 5))
    return early, late


def growing(samples: Sequence[Sample]) -> list[str]:
    """Return what is not flat, a sentence each."""
    found = []
    for name, measure in MEASURES.items():
        early, late = medians(samples, name)
        most = early * (1 + measure.share) + measure.more
        if late > most:
            words = (f"{value / measure.unit:,.1f}" for value in (early, late, most))
            found.append("{} grew from {} to {}; at most {} are flat".format(measure.title, *words))
    return found
