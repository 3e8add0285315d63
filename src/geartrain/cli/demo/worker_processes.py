"""Starts, kills and replaces the demo's worker processes."""

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

_MAX_CRASHES: Final = 5  # unexpected deaths of worker processes before the demo gives up


class WorkerProcessError(Exception):
    """A worker process cannot be started, or worker processes keep crashing."""


@dataclass(eq=False)
class DemoWorker:
    """
    A worker process.

    Attributes:
        number: A sequence number, from 1. A replacement gets a new number.
        process: The process itself.
        stdin: The worker exits when this is closed.
        stderr: Its standard error.
        killed: Whether the demo has killed it on purpose.
    """

    number: int
    process: ChildProcess
    stdin: InputPipe
    stderr: OutputPipe
    killed: bool = False

    @property
    def pid(self) -> int:
        """The process ID."""
        return self.process.pid

    def __str__(self) -> str:
        return f"worker {self.number}"


class WorkerProcesses:
    """
    A set of worker processes. One that dies is replaced immediately.

    Each has its own process group, so Ctrl-C does not reach it directly, and exits when its standard input ends, so it
    does not outlive the demo even if that is killed.

    Args:
        group: Runs the tasks that watch the processes; fails with :class:`WorkerProcessError` if they keep crashing.
        arguments: The arguments of ``python``.
        screen: Shows which workers are started and lost.
    """

    def __init__(self, group: asyncio.TaskGroup, arguments: Sequence[str], screen: Screen) -> None:
        self._group = group
        self._arguments = arguments
        self._screen = screen
        self._started = 0
        self._crashes = 0
        self._watch_tasks: list[asyncio.Task[None]] = []
        self._workers: dict[bytes, DemoWorker] = {}  # by process ID, including dead ones

    def start(self) -> DemoWorker:
        """Start another worker process."""
        self._started += 1
        stdin, stderr = InputPipe(), OutputPipe()
        command = [sys.executable, *self._arguments]
        try:
            process = ChildProcess(command, stdin=stdin.child_end, stdout=DEVNULL, stderr=stderr.child_end)
        except OSError as error:
            stdin.close()
            stderr.close()
            raise WorkerProcessError(f"cannot start a worker process: {error.strerror}") from error
        stdin.close_child_end()
        stderr.close_child_end()
        worker = self._workers[b"%d" % process.pid] = DemoWorker(self._started, process, stdin, stderr)
        self._watch_tasks.append(self._group.create_task(self._watch(worker)))
        self._screen.show_message(f"{worker} started (process {worker.pid})")
        return worker

    def find(self, pid: bytes) -> DemoWorker | None:
        """Return the process with this process ID (decimal digits), dead or alive."""
        return self._workers.get(pid)

    def kill(self, worker: DemoWorker) -> None:
        """Kill a worker with SIGKILL."""
        worker.killed = True
        worker.process.send_signal(signal.SIGKILL)

    async def kill_all(self) -> None:
        """Kill all processes and wait until they are gone."""
        for task in self._watch_tasks:
            task.cancel()
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
            self._crashes += 1
            if self._crashes > _MAX_CRASHES:
                last_line = text.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise WorkerProcessError(f"worker processes keep crashing; last error: {last_line or 'none'}")
            self._screen.show_message(f"{worker} died ({describe_exit(status)})", "red")
        self._screen.remove_worker(str(worker))
        self.start()
