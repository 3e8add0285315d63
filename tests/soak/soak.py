"""One soak: the load, the faults, and the samples."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from geartrain import JobServer
from tests.soak.load import Load, log
from tests.soak.samples import Sample, take, timers

ROOT: Final = Path(__file__).parents[2]
LONGEST_INTERVAL: Final = 3.0  # seconds between two samples
SAMPLES: Final = 50  # at least


class Soak:
    """
    Runs the load, and takes samples.

    Attributes:
        samples: The samples so far.
        faults: When each fault began, and its name.
        load: The load.
        left: The timers, tasks and descriptors that were left after everything was closed.
    """

    def __init__(self, seconds: float, seed: str, directory: Path) -> None:
        self.seconds = seconds
        self.samples: list[Sample] = []
        self.faults: list[tuple[float, str]] = []
        self.left: list[str] = []
        self.load: Load
        self._seed = seed
        self._directory = directory
        self._begun = 0.0

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self._begun

    async def run(self, sampled: Callable[[], object]) -> None:
        """Run to the end; ``sampled`` is called after each sample."""
        self._begun = asyncio.get_running_loop().time()
        gc.collect()
        gc.freeze()  # objects from before the soak are not counted, and do not slow down the samples
        before = take(0)
        async with JobServer(port=0, logger=log) as server:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.soak.faults", self._seed, str(self._directory), server.address),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            servers = json.loads(await process.stdout.readline())
            self.load = Load(servers, random.Random(self._seed))
            sampling = asyncio.create_task(self._sample(sampled))
            reading = asyncio.create_task(self._read_faults(process.stdout))
            try:
                await self.load.run(self.seconds)
            finally:
                sampling.cancel()
                process.stdin.close()
                await asyncio.wait([sampling, reading])
                status = await process.wait()
        for task in (sampling, reading):
            if not task.cancelled():
                task.result()
        assert status == 0, f"the faults ended with {status}"
        await self._find_left(before)

    async def _sample(self, sampled: Callable[[], object]) -> None:
        interval = min(self.seconds / SAMPLES, LONGEST_INTERVAL)
        while True:
            await asyncio.sleep(interval)
            self.samples.append(take(self.now))
            sampled()

    async def _read_faults(self, faults: asyncio.StreamReader) -> None:
        while line := await faults.readline():
            self.faults.append((self.now, json.loads(line)))

    async def _find_left(self, before: Sample) -> None:
        for _ in range(10):  # transports call connection_lost in later turns of the loop
            await asyncio.sleep(0)
        after = take(self.now)
        self.left += [f"a timer: {timer}" for timer in timers()]
        self.left += [f"an asyncio task: {task}" for task in asyncio.all_tasks() - {asyncio.current_task()}]
        if after.descriptors > before.descriptors:
            self.left.append(f"{after.descriptors - before.descriptors} file descriptors")
