"""Several processes of one worker: started, started anew when they end, and told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from geartrain.cli.exits import DONE, WRONG_USE
from geartrain.cli.processes import kill_all_of, start_process
from geartrain.cli.words import describe_end
from geartrain.cli.worker.sources import Sources

__all__ = ["Supervisor"]

_SOON: Final = 1.0  # seconds; a process that ends sooner is not started anew before they are over
_LOOK: Final = 0.5  # seconds from one look at the sources to the next


class Supervisor:
    """
    Keeps a number of processes running.

    Each is told to stop by SIGTERM, and also stops when its standard input ends: it does not outlive us. They are no
    part of our process group, so that Ctrl-C reaches them only through us.

    Args:
        command: What each process runs.
        number: How many.
        sources: Start them all anew when a Python file below this directory changes.
    """

    def __init__(self, command: Sequence[str], number: int, sources: Path | None) -> None:
        self._command = command
        self._number = number
        self._sources = None if sources is None else Sources(sources)
        self._processes: set[Process] = set()
        self._stopping = False
        self._status = DONE
        self._news = asyncio.Event()  # set to stop, or when sources have changed

    async def run(self) -> int:
        """Keep them running until :meth:`stop`, and return the exit status."""
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._number):
                    group.create_task(self._keep_running())
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await self._kill()
        return self._status

    def stop(self) -> None:
        """Tell all processes to stop; :meth:`run` ends when they have."""
        self._stopping = True
        self._tell_all()

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            process = await start_process(*self._command, stdin=PIPE)
            self._processes.add(process)
            if self._stopping:  # since it was begun to be started
                process.terminate()
            status = await process.wait()
            self._processes.discard(process)
            if status == WRONG_USE and self._sources is None and not self._stopping:
                self._status = WRONG_USE  # it has said why, and another one would say the same
                self.stop()
            elif status != DONE and not self._stopping:
                click.echo(f"geartrain worker: process {process.pid} ended with {describe_end(status)}", err=True)
                await self._wait_for_news(0.0 if loop.time() > began + _SOON else _SOON)

    async def _wait_for_news(self, seconds: float) -> None:
        """Wait, so that a process that cannot even start is not started a hundred times a second."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._sources is not None and seconds else seconds):
                await self._news.wait()

    async def _watch(self) -> None:
        while self._sources is not None:
            await asyncio.sleep(_LOOK)
            if changed := await asyncio.to_thread(self._sources.find_changed):
                click.echo(f"geartrain worker: {changed} has changed", err=True)
                self._tell_all()

    def _tell_all(self) -> None:
        self._news.set()
        for process in self._processes:
            process.terminate()

    async def _kill(self) -> None:
        await asyncio.gather(*map(kill_all_of, self._processes))
