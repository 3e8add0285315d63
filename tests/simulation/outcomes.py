"""What workers do with jobs, and how each try of such a job ends."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

LARGE: Final = ("large-workload", "large-result", "large-data", "large-exception")
SIZES: Final = (1500, 9000)  # bytes; the larger one is skipped while it arrives

# The end of a try: the packet that ends it, or one of these.
REFUSED: Final = "refused"  # the queue is full
TOO_LARGE: Final = "too large"  # a result or update is over the client's limit
WORKLOAD_REFUSED: Final = "workload refused"  # the workload is over the server's limit


class Sizes(NamedTuple):
    """The ``max_packet_size`` of each part of a world."""

    client: int
    worker: int
    server: int


def draw_sizes(rng: random.Random) -> Sizes:
    """Return limits of which none, some or all are too small for large jobs."""
    return Sizes(
        client=rng.choice((1024, 2048, 2**20)),
        worker=rng.choice((1024, 2**20, 2**20, 2**20)),
        server=rng.choice((1024, 2**20, 2**20, 2**20)),
    )


def draw_large(rng: random.Random) -> str:
    """Return an outcome with a large packet."""
    return f"{rng.choice(LARGE)}:{rng.choice(SIZES)}"


def split_outcome(outcome: str) -> tuple[str, int]:
    """Return what the worker does, and the size in bytes if something is large."""
    what, _, size = outcome.partition(":")
    return what, int(size or 0)


def workload_of(name: str, outcome: str) -> str:
    """Return the workload, which contains the outcome for the worker."""
    what, size = split_outcome(outcome)
    return f"{name} {outcome} ".ljust(size, "x") if what == "large-workload" else f"{name} {outcome}"


def result_of(name: str, outcome: str = "complete") -> bytes:
    """Return the result that the worker sends."""
    what, size = split_outcome(outcome)
    result = b"result of " + name.encode()
    return result.ljust(size, b".") if what == "large-result" else result


def fate_of(outcome: str, sizes: Sizes) -> str:
    """Return how a try ends if no queue is full, no job is forgotten and no connection is lost."""
    what, size = split_outcome(outcome)
    if what == "large-workload" and size > sizes.server:
        return WORKLOAD_REFUSED
    if what.startswith("large") and size > sizes.worker:
        return "WORK_EXCEPTION"  # the worker reports that it is too large
    if what in ("large-result", "large-data", "large-exception"):
        if size > sizes.server:
            return "WORK_FAIL"
        if size > sizes.client:
            return TOO_LARGE
    return {"fail": "WORK_FAIL", "raise": "WORK_EXCEPTION", "large-exception": "WORK_EXCEPTION"}.get(
        what, "WORK_COMPLETE"
    )


def is_run(outcome: str, sizes: Sizes) -> bool:
    """Whether the worker's function is called at all."""
    what, size = split_outcome(outcome)
    return what != "large-workload" or size <= min(sizes.worker, sizes.server)
