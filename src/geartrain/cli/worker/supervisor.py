"""Keeps the processes of a worker running, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from geartrain.cli.child_process import ChildProcess
from geartrain.cli.exit_status import FAILED, SUCCESS, USAGE_ERROR
from geartrain.cli.messages import describe_exit, pluralize
from geartrain.cli.worker.process_health import ProcessHealth
from geartrain.cli.worker.source_watcher import SourceWatcher

if TYPE_CHECKING:
    from geartrain.worker.job_metrics import JobMetrics

logger: Final = logging.getLogger("geartrain.supervisor")

__all__ = ["MAX_FAILURES", "Supervisor"]

MAX_FAILURES: Final = 5  # in a row, of one process and its replacements

_MIN_UPTIME: Final = 10.0  # seconds; a process that exits sooner without having done a job has failed
_MIN_DELAY: Final = 1.0  # seconds before a failed process is restarted; doubled on each failure in a row
_MAX_DELAY: Final = 30.0
_MAX_DOUBLINGS: Final = 64  # more would make no difference, and overflow at 1024
_POLL_INTERVAL: Final = 0.5  # seconds between checks of the source files
_ASK_INTERVAL: Final = 1.0  # seconds between questions to the processes
_STUCK_AFTER: Final = 5.0  # seconds without an answer


@dataclass(eq=False)
class _WorkerProcess:
    """A supervised process and its state."""

    process: ChildProcess
    control_socket: socket.socket  # connected to its standard input; EOF means that the supervisor is gone
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    stop_requested: bool = False

    def __post_init__(self) -> None:
        self.health = ProcessHealth(self.control_socket)

    def stop(self) -> None:
        self.stop_requested = True
        self.process.send_signal(signal.SIGTERM)


def _restart_delay(failures: int) -> float:
    """Return how long to wait before restarting a process that has failed this many times in a row (seconds)."""
    return min(_MIN_DELAY * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), _MAX_DELAY)


class Supervisor:
    """
    Keeps a number of processes running.

    A process that exits is restarted immediately if it ran for a while, or exited with status 0 after at least one job.
    Otherwise it has failed: the restart is delayed, longer with each failure in a row, and after ``max_failures`` of
    them the supervisor stops all processes and gives up. With ``source_directory`` it waits for a change instead.

    A process stops on SIGTERM and when its standard input ends, so it does not outlive the supervisor. It has its own
    process group, so Ctrl-C reaches it only through the supervisor. When it exits, its process group is killed.

    Args:
        command: The command that each process runs.
        count: The number of processes.
        source_directory: Restart all processes when a Python file below this directory changes.
        max_failures: Give up after this many failures in a row; 0 means never.
    """

    def __init__(
        self, command: Sequence[str], count: int, source_directory: Path | None, *, max_failures: int = MAX_FAILURES
    ) -> None:
        self._command = command
        self._count = count
        self._source_watcher = None if source_directory is None else SourceWatcher(source_directory)
        self._max_failures = max_failures
        self._metrics: JobMetrics | None = None
        self._processes: set[_WorkerProcess] = set()
        self._started = 0  # the number of processes so far
        self._has_worked = False  # whether any process has done a job or run for a while
        self._stopping = False
        self._status = SUCCESS
        self._changed = asyncio.Event()  # set on stop() and when a source file has changed

    async def run(self) -> int:
        """Keep the processes running until :meth:`stop` or giving up, and return the exit status."""
        watch_task = asyncio.create_task(self._watch_sources())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep_running())
        finally:
            watch_task.cancel()
            await asyncio.wait([watch_task])
        return self._status

    def stop(self) -> None:
        """Stop all processes; :meth:`run` returns once they have exited."""
        if not self._stopping:
            logger.info("stopping: waiting for %s", pluralize(len(self._processes), "process", "processes"))
        self._stopping = True
        self._stop_processes()

    def record_metrics(self, metrics: JobMetrics) -> None:
        """Have all processes record metrics, and record their restarts here. Call it before :meth:`run`."""
        self._metrics = metrics
        self._command = [*self._command, "--record-metrics"]

    async def ask_processes(self) -> None:
        """Ask all processes how they are, again and again; what they answer is in the two methods that follow."""
        while True:
            for worker in self._processes:
                worker.health.ask()
            await asyncio.sleep(_ASK_INTERVAL)

    def find_problem(self) -> str | None:
        """Return which process has not answered for 5 seconds, if any. Any thread may ask."""
        for worker in list(self._processes):
            answered_at = worker.health.answered_at
            if answered_at is not None and (seconds := time.monotonic() - answered_at) >= _STUCK_AFTER:
                return f"process {worker.process.pid} has not answered for {seconds:.0f} s"
        return None

    def why_not_ready(self) -> str | None:
        """Return why no process takes jobs, if that is so. Any thread may ask."""
        if self._stopping:
            return "the worker is stopping"
        if any(worker.health.is_ready for worker in list(self._processes)):
            return None
        return "no process takes jobs"

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping:
            failures = failures + 1 if await self._run_process() else 0
            if not failures or self._stopping:
                continue
            if self._source_watcher is not None:
                await self._wait_for_change(None)
            elif failures == self._max_failures:
                logger.error("giving up after %d failures in a row", failures)
                self._give_up(FAILED)
            else:
                delay = _restart_delay(failures)
                logger.info("starting a process again in %g s", delay, extra={"seconds": delay})
                await self._wait_for_change(delay)

    async def _run_process(self) -> bool:
        """Run one process until it exits, and return whether it failed."""
        try:
            worker = self._start()
        except OSError as error:
            logger.error("cannot start a process: %s", error.strerror)
            return True
        self._started += 1
        restarts = max(self._started - self._count, 0)
        if restarts and self._metrics is not None:
            self._metrics.on_restart()
        logger.info(
            "started process %d%s",
            worker.process.pid,
            f", {pluralize(restarts, 'restart')} so far" if restarts else "",
            extra={"pid": worker.process.pid, "restarts": restarts},
        )
        self._processes.add(worker)
        try:
            status = await worker.process.wait()
            return self._check_exit(worker, status)
        finally:
            self._processes.discard(worker)
            await worker.process.kill()
            worker.control_socket.close()

    def _start(self) -> _WorkerProcess:
        control_socket, child_end = socket.socketpair()
        control_socket.setblocking(False)
        try:
            return _WorkerProcess(ChildProcess(self._command, stdin=child_end), control_socket)
        except OSError:
            control_socket.close()
            raise
        finally:
            child_end.close()

    def _check_exit(self, worker: _WorkerProcess, status: int) -> bool:
        """Report an unexpected exit of a process, and return whether it failed."""
        did_job = worker.health.has_done_job()
        seconds = asyncio.get_running_loop().time() - worker.started
        ran_long = seconds >= _MIN_UPTIME
        self._has_worked = self._has_worked or did_job or ran_long
        if self._stopping:
            self._log_exit(logging.INFO, worker, status)
            return False
        if status == USAGE_ERROR and not self._has_worked and self._source_watcher is None:
            self._give_up(USAGE_ERROR)  # it has printed the reason, and a restart would not help
            return False
        expected = (SUCCESS, -signal.SIGTERM) if worker.stop_requested else (SUCCESS,)
        failed = not (ran_long or worker.stop_requested or (did_job and status == SUCCESS))
        self._log_exit(logging.WARNING if failed or status not in expected else logging.INFO, worker, status)
        return failed

    def _log_exit(self, level: int, worker: _WorkerProcess, status: int) -> None:
        seconds = asyncio.get_running_loop().time() - worker.started
        logger.log(
            level,
            "process %d ended with %s after %.1f s",
            worker.process.pid,
            describe_exit(status),
            seconds,
            extra={"pid": worker.process.pid, "status": status, "seconds": seconds},
        )

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
                logger.info("%s has changed", changed)
                self._stop_processes()

    def _stop_processes(self) -> None:
        self._changed.set()
        for worker in self._processes:
            worker.stop()
