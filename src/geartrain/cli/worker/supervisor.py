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
from geartrain.cli.console import complain
from geartrain.cli.exit_status import DONE, FAILED, WRONG_USE
from geartrain.cli.messages import describe_end
from geartrain.cli.worker.source_watcher import Sources

__all__ = ["MAX_FAILURES", "WORKED", "Supervisor"]

MAX_FAILURES: Final = 5  # in a row, of one process and those that took its place
WORKED: Final = b"."  # what a process that has done a job sends us before it ends

_EARLY: Final = 10.0  # seconds; a process that ends sooner without having done a job has failed
_FIRST_DELAY: Final = 1.0  # seconds before a process that failed is restarted; doubled with each failure in a row
_LAST_DELAY: Final = 30.0
_POLL: Final = 0.5  # seconds from one look at the sources to the next


@dataclass(eq=False)
class _Member:
    """One of the processes, and what we know of it."""

    process: ChildProcess
    lifeline: socket.socket  # its standard input; its end says that we are gone
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    told_to_stop: bool = False

    def stop(self) -> None:
        self.told_to_stop = True
        self.process.send_signal(signal.SIGTERM)

    def has_worked(self) -> bool:
        """Whether it has done a job, as it says at its end."""
        try:
            return self.lifeline.recv(1) == WORKED
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
        self._sources = None if sources is None else Sources(sources)
        self._max_failures = max_failures
        self._members: set[_Member] = set()
        self._has_worked = False  # one of the processes, at any time
        self._stopping = False
        self._status = DONE
        self._changed = asyncio.Event()  # set to stop, and when sources have changed

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
            if self._sources is not None:
                await self._wait_for_change(None)
            elif failures == self._max_failures:
                complain(f"geartrain worker: giving up after {failures} failures in a row")
                self._give_up(FAILED)
            else:
                await self._wait_for_change(min(_FIRST_DELAY * 2 ** (failures - 1), _LAST_DELAY))

    async def _run_process(self) -> bool:
        """Run one process to its end, and return whether it failed."""
        try:
            member = self._start()
        except OSError as error:
            complain(f"geartrain worker: a process cannot be started: {error.strerror}")
            return True
        self._members.add(member)
        try:
            status = await member.process.wait()
            return self._judge(member, status)
        finally:
            self._members.discard(member)
            await member.process.kill()
            member.lifeline.close()

    def _start(self) -> _Member:
        lifeline, child_end = socket.socketpair()
        lifeline.setblocking(False)
        try:
            return _Member(ChildProcess(self._command, stdin=child_end), lifeline)
        except OSError:
            lifeline.close()
            raise
        finally:
            child_end.close()

    def _judge(self, member: _Member, status: int) -> bool:
        """Report how a process ended unless that is as it should be, and return whether it failed."""
        worked = member.has_worked()
        lasted = asyncio.get_running_loop().time() - member.started >= _EARLY
        self._has_worked = self._has_worked or worked or lasted
        if self._stopping:
            return False
        if status == WRONG_USE and not self._has_worked and self._sources is None:
            self._give_up(WRONG_USE)  # it has said why, and another one would say the same
            return False
        expected = (DONE, -signal.SIGTERM) if member.told_to_stop else (DONE,)
        failed = not (lasted or member.told_to_stop or (worked and status == DONE))
        if failed or status not in expected:
            complain(f"geartrain worker: process {member.process.pid} ended with {describe_end(status)}")
        return failed

    def _give_up(self, status: int) -> None:
        self._status = status
        self.stop()

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _watch(self) -> None:
        while self._sources is not None:
            await asyncio.sleep(_POLL)
            if changed := await asyncio.to_thread(self._sources.find_changed):
                complain(f"geartrain worker: {changed} has changed")
                self._stop_processes()

    def _stop_processes(self) -> None:
        self._changed.set()
        for member in self._members:
            member.stop()
