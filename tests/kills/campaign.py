"""Runs jobs whose processes are killed, and judges how each has ended."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Final

from geartrain import Client, JobExceptionError, Worker
from tests.kills.points import AROUND_TIMEOUT, POINTS, TIMEOUT, work
from tests.support.gearmand import Gearmand

PROCESSES: Final = 8
OUTSTANDING: Final = 16
END_WITHIN: Final = 60.0  # seconds

DIED = "ChildProcessError"
DONE = "done"
LATE = "TimeoutError"
NOT_KILLED = "nowhere"

# Point -> how the job may end, and how often it may run. A job that the process has not shown is given to another one,
# and so is one of which the job server has part of a packet.
EXPECTED: Final[dict[str, tuple[set[str], set[int]]]] = {
    NOT_KILLED: ({DONE, LATE}, {1}),
    "before the board": ({DONE}, {1}),
    "after the board": ({DIED}, {0}),
    "in the function": ({DIED}, {1}),
    "before a send": ({DIED}, {1}),
    "in a send": ({DONE}, {2}),
    "after a send": ({DIED}, {1}),
    "after the result": ({DONE}, {1}),
    "before the board is cleared": ({DONE}, {1}),
    "after the job": ({DONE}, {1}),
    **dict.fromkeys(AROUND_TIMEOUT, ({DIED, LATE}, {1})),
}


async def run_campaign(count: int, directory: Path, seed: str) -> tuple[Counter[tuple[str, str]], list[str]]:
    """
    Kill processes this many times.

    Returns:
        How often jobs with each point have ended in each way, and what was wrong.
    """
    logger = logging.getLogger("tests.kills")
    logger.setLevel(logging.CRITICAL)  # functions die on purpose
    ends: Counter[tuple[str, str]] = Counter()
    errors: list[str] = []
    randomness = random.Random(seed)
    with Gearmand(directory) as gearmand:
        worker = Worker(gearmand.address, concurrency=PROCESSES, logger=logger)
        worker.function("work", processes=PROCESSES, timeout=TIMEOUT)(work)
        running = asyncio.create_task(worker.run())
        async with Client([gearmand.address]) as client:
            numbers = iter(range(1_000_000_000))

            async def submit() -> None:
                while sum(times for (point, _), times in ends.items() if point != NOT_KILLED) < count:
                    number, point = next(numbers), randomness.choice(POINTS)
                    try:
                        async with asyncio.timeout(END_WITHIN):
                            result = await client.do("work", f"{number}|{point}|{directory}")
                        end = DONE if result == b"done %d" % number else repr(result)
                    except JobExceptionError as error:
                        end = error.data.decode().partition(":")[0]
                    except Exception as error:  # noqa: BLE001  # it is judged
                        end = repr(error)
                    point = point if (directory / f"{number}.killed").exists() else NOT_KILLED
                    ends[point, end] += 1
                    errors.extend(judge(number, point, end, directory))

            await asyncio.gather(*(submit() for _ in range(OUTSTANDING)))
            worker.stop()
            await running
        errors += judge_statistics(worker, ends)
    return ends, errors


def judge(number: int, point: str, end: str, directory: Path) -> list[str]:
    """Return what is wrong with a job that has ended."""
    runs, mark = directory / f"{number}.runs", directory / f"{number}.killed"
    times = runs.stat().st_size if runs.exists() else 0
    ways, often = EXPECTED[point]
    wrong = []
    if end not in ways:
        wrong.append(f"job {number}, killed {point}, ended with {end}")
    if times not in often:
        wrong.append(f"job {number}, killed {point}, was run {times} times")
    for path in (runs, mark):
        path.unlink(missing_ok=True)
    return wrong


def judge_statistics(worker: Worker, ends: Counter[tuple[str, str]]) -> list[str]:
    """Return what is wrong with the counters of a worker that has stopped."""
    statistics = worker.statistics()
    wrong = []
    if statistics.running:
        wrong.append(f"{statistics.running} jobs still run")
    if statistics.taken < sum(ends.values()) - ends["before the board", DONE]:
        wrong.append(f"{statistics.taken} jobs were taken, {sum(ends.values())} have ended")
    return wrong
