"""The demo's worker processes: started, killed, replaced, and never left behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import DEVNULL
from typing import Final

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.demo.screen import Screen
from geartrain.cli.messages import describe_exit
from geartrain.cli.pipes import InputPipe, OutputPipe

__all__ = ["DemoWorker", "WorkerProcessError", "WorkerProcesses"]

_MAX_LOSSES: Final = 5  # worker processes that may die unasked before the demo gives up


class WorkerProcessError(Exception):
    """Worker processes die again and again."""


@dataclass(eq=False)
class DemoWorker:
    """
    A worker process.

    Attributes:
        number: Counted from 1; a process that takes another one's place gets a number of its own.
        process: The process itself.
        stdin: It ends when this is closed.
        stderr: What it says before it dies.
        killed: It was we who killed it.
    """

    number: int
    process: ChildProcess
    stdin: InputPipe
    stderr: OutputPipe
    killed: bool = False

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    def __str__(self) -> str:
        return f"worker {self.number}"


class WorkerProcesses:
    """
    Some worker processes. One that dies is replaced at once.

    They are no part of our process group, so that Ctrl-C reaches them only through us, and they end when their standard
    input does, so that they do not outlive us even if we are killed.

    Args:
        group: Where they are watched; it fails with :class:`WorkerProcessError` if they die again and again.
        arguments: What ``python`` is to be called with.
        screen: Is told who comes and who goes.
    """

    def __init__(self, group: asyncio.TaskGroup, arguments: Sequence[str], screen: Screen) -> None:
        self._group = group
        self._arguments = arguments
        self._screen = screen
        self._started = 0
        self._losses = 0
        self._watches: list[asyncio.Task[None]] = []
        self._workers: dict[bytes, DemoWorker] = {}  # by process number, dead ones as well

    def start(self) -> DemoWorker:
        """Start one more."""
        self._started += 1
        stdin, stderr = InputPipe(), OutputPipe()
        command = [sys.executable, *self._arguments]
        try:
            process = ChildProcess(command, stdin=stdin.child_end, stdout=DEVNULL, stderr=stderr.child_end)
        except OSError as error:
            stdin.close()
            stderr.close()
            raise WorkerProcessError(f"a worker process cannot be started: {error.strerror}") from error
        stdin.close_child_end()
        stderr.close_child_end()
        worker = self._workers[b"%d" % process.pid] = DemoWorker(self._started, process, stdin, stderr)
        self._watches.append(self._group.create_task(self._watch(worker)))
        self._screen.show_message(f"{worker} started (process {worker.pid})")
        return worker

    def find(self, pid: bytes) -> DemoWorker | None:
        """Return the process with this number, in decimal digits, dead or alive."""
        return self._workers.get(pid)

    def kill(self, worker: DemoWorker) -> None:
        """End it without a warning, as ``kill -9`` does."""
        worker.killed = True
        worker.process.send_signal(signal.SIGKILL)

    async def end(self) -> None:
        """End all at once, and see that they are gone."""
        for watch in self._watches:
            watch.cancel()
        try:
            await asyncio.gather(*(worker.process.kill() for worker in self._workers.values()))
        finally:
            for worker in self._workers.values():
                worker.stdin.close()
                worker.stderr.close()

    async def _watch(self, worker: DemoWorker) -> None:
        text = b"".join([chunk async for chunk in worker.stderr.read()])
        status = await worker.process.wait()
        if not worker.killed:
            self._losses += 1
            if self._losses > _MAX_LOSSES:
                last = text.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise WorkerProcessError(
                    f"the worker processes die again and again; the last one said: {last or 'nothing'}"
                )
            self._screen.show_message(f"{worker} died ({describe_exit(status)})", "red")
        self._screen.remove_worker(str(worker))
        self.start()
