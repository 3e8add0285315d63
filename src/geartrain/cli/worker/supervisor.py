"""Keeps several processes of one worker running, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, SUCCESS, USAGE_ERROR
from geartrain.cli.messages import describe_exit
from geartrain.cli.worker.source_watcher import SourceWatcher

__all__ = ["JOB_DONE", "MAX_FAILURES", "Supervisor"]

MAX_FAILURES: Final = 5  # in a row, of one process and those that took its place
JOB_DONE: Final = b"."  # what a process that has done a job sends us before it ends

_MIN_UPTIME: Final = 10.0  # seconds; a process that ends sooner without having done a job has failed
_MIN_DELAY: Final = 1.0  # seconds before a process that failed is restarted; doubled with each failure in a row
_MAX_DELAY: Final = 30.0
_POLL_INTERVAL: Final = 0.5  # seconds from one look at the sources to the next


@dataclass(eq=False)
class _WorkerProcess:
    """One of the processes, and what we know of it."""

    process: ChildProcess
    control: socket.socket  # its standard input; its end says that we are gone
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    stop_requested: bool = False

    def stop(self) -> None:
        self.stop_requested = True
        self.process.send_signal(signal.SIGTERM)

    def has_done_job(self) -> bool:
        """Whether it has done a job, as it says at its end."""
        try:
            return self.control.recv(1) == JOB_DONE
        except OSError:  # it has said nothing
            return False


class Supervisor:
    """
    Keeps a number of processes running.

    A process that ends is restarted immediately if it ran for a while, or ended with status 0 after at least one job.
    Otherwise it has failed: the restart is delayed, longer with each failure in a row, and after a number of them the
    supervisor stops all processes and gives up. With ``sources`` it waits for a change instead.

    Each process is stopped by SIGTERM, and also stops when its standard input ends, so it does not outlive us. They are
    not in our process group: Ctrl-C reaches them only through us. What a process has started in its own process group
    is killed when it ends.

    Args:
        command: What each process runs.
        number: How many processes.
        sources: Restart them all when a Python file below this directory changes.
        max_failures: How many times in a row a process may fail; 0 for any number.
    """

    def __init__(
        self, command: Sequence[str], number: int, sources: Path | None, *, max_failures: int = MAX_FAILURES
    ) -> None:
        self._command = command
        self._number = number
        self._source_watcher = None if sources is None else SourceWatcher(sources)
        self._max_failures = max_failures
        self._workers: set[_WorkerProcess] = set()
        self._has_done_job = False  # one of the processes, at any time
        self._stopping = False
        self._status = SUCCESS
        self._changed = asyncio.Event()  # set to stop, and when sources have changed

    async def run(self) -> int:
        """Keep them running until :meth:`stop`, and return the exit status."""
        watching = asyncio.create_task(self._watch_sources())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._number):
                    group.create_task(self._keep_running())
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        return self._status

    def stop(self) -> None:
        """Tell all processes to stop; :meth:`run` ends when they have."""
        self._stopping = True
        self._stop_processes()

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping:
            failures = failures + 1 if await self._run_process() else 0
            if not failures or self._stopping:
                continue
            if self._source_watcher is not None:
                await self._wait_for_change(None)
            elif failures == self._max_failures:
                print_error(f"geartrain worker: giving up after {failures} failures in a row")
                self._give_up(FAILED)
            else:
                await self._wait_for_change(min(_MIN_DELAY * 2 ** (failures - 1), _MAX_DELAY))

    async def _run_process(self) -> bool:
        """Run one process to its end, and return whether it failed."""
        try:
            worker = self._start()
        except OSError as error:
            print_error(f"geartrain worker: a process cannot be started: {error.strerror}")
            return True
        self._workers.add(worker)
        try:
            status = await worker.process.wait()
            return self._check_exit(worker, status)
        finally:
            self._workers.discard(worker)
            await worker.process.kill()
            worker.control.close()

    def _start(self) -> _WorkerProcess:
        control, child_end = socket.socketpair()
        control.setblocking(False)
        try:
            return _WorkerProcess(ChildProcess(self._command, stdin=child_end), control)
        except OSError:
            control.close()
            raise
        finally:
            child_end.close()

    def _check_exit(self, worker: _WorkerProcess, status: int) -> bool:
        """Report how a process ended unless that is as it should be, and return whether it failed."""
        worked = worker.has_done_job()
        lasted = asyncio.get_running_loop().time() - worker.started >= _MIN_UPTIME
        self._has_done_job = self._has_done_job or worked or lasted
        if self._stopping:
            return False
        if status == USAGE_ERROR and not self._has_done_job and self._source_watcher is None:
            self._give_up(USAGE_ERROR)  # it has said why, and another one would say the same
            return False
        expected = (SUCCESS, -signal.SIGTERM) if worker.stop_requested else (SUCCESS,)
        failed = not (lasted or worker.stop_requested or (worked and status == SUCCESS))
        if failed or status not in expected:
            print_error(f"geartrain worker: process {worker.process.pid} ended with {describe_exit(status)}")
        return failed

    def _give_up(self, status: int) -> None:
        self._status = status
        self.stop()

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _watch_sources(self) -> None:
        while self._source_watcher is not None:
            await asyncio.sleep(_POLL_INTERVAL)
            if changed := await asyncio.to_thread(self._source_watcher.find_changed):
                print_error(f"geartrain worker: {changed} has changed")
                self._stop_processes()

    def _stop_processes(self) -> None:
        self._changed.set()
        for worker in self._workers:
            worker.stop()
