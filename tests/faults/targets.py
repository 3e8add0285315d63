"""The targets of faults: job servers, the wires to them, worker processes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.worker import EXECUTORS, READY
from tests.support.environment import without_coverage
from tests.support.gearmand import Gearmand
from tests.support.job_server import ROOT
from tests.support.processes import end_process, send_signal
from tests.support.proxy import Proxy

# gearmand does not re-run a job that was lost with its worker, so each run belongs to exactly one submission and
# excess runs can be counted.
OPTIONS: Final = ("-j", "1")
ENDS_WITHIN: Final = 10.0  # seconds


class Site:
    """A gearmand that can be replaced, and the wires to it, one for clients and one for workers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.gearmand = Gearmand(directory, OPTIONS)
        self.for_clients = Proxy(self.gearmand.address)
        self.for_workers = Proxy(self.gearmand.address)

    async def start(self) -> None:
        await asyncio.to_thread(self.gearmand.start)
        await self.for_clients.accept()
        await self.for_workers.accept()

    async def replace(self) -> None:
        """Replace this gearmand by another one at another address."""
        old, new = self.gearmand, Gearmand(self._directory, OPTIONS)
        await asyncio.to_thread(new.start)
        self.gearmand = new
        self.for_clients.target = self.for_workers.target = new.address
        await asyncio.to_thread(old.kill)

    async def stop(self) -> None:
        await self.for_clients.stop()
        await self.for_workers.stop()
        await asyncio.to_thread(self.gearmand.kill)


class WorkerProcess:
    """A series of worker processes with the same executor and ledger."""

    def __init__(self, directory: Path, number: int, addresses: list[str]) -> None:
        self._ledger = directory / f"ledger-{number}"
        self._log = directory / f"worker-{number}.log"
        executor = list(EXECUTORS)[number % len(EXECUTORS)]
        command = (sys.executable, "-W", "error", "-m", "tests.faults.worker")
        self._command = [*command, executor, str(self._ledger), *addresses]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                env=without_coverage(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == READY, f"a worker failed: {self._log.read_text()}"

    async def end(self, sign: int) -> None:
        """End it with a signal."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.returncode is None, f"a worker ended by itself: {self._log.read_text()}"
        send_signal(process.pid, sign)
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                status = await process.wait()
        except TimeoutError:
            await end_process(process)
            raise AssertionError(f"a worker was still there {ENDS_WITHIN} s after signal {sign}") from None
        assert status == 0 or -status == sign == signal.SIGKILL, f"a worker failed: {self._log.read_text()}"

    def read_ledger(self) -> Counter[tuple[str, str]]:
        """Return how often it did (what, with which job)."""
        if not self._ledger.exists():
            return Counter()
        lines = (line.split(" ", 1) for line in self._ledger.read_text().splitlines())
        return Counter((what, name) for what, name in lines)
