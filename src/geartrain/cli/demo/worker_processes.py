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
from geartrain.cli.messages import describe_end
from geartrain.cli.pipes import InputPipe, OutputPipe

__all__ = ["Crew", "CrewError", "Member"]

_MAX_LOSSES: Final = 5  # worker processes that may die unasked before the demo gives up


class CrewError(Exception):
    """Worker processes die again and again."""


@dataclass(eq=False)
class Member:
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


class Crew:
    """
    Some worker processes. One that dies is replaced at once.

    They are no part of our process group, so that Ctrl-C reaches them only through us, and they end when their standard
    input does, so that they do not outlive us even if we are killed.

    Args:
        group: Where they are watched; it fails with :class:`CrewError` if they die again and again.
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
        self._members: dict[bytes, Member] = {}  # by process number, dead ones as well

    def start(self) -> Member:
        """Start one more."""
        self._started += 1
        stdin, stderr = InputPipe(), OutputPipe()
        command = [sys.executable, *self._arguments]
        try:
            process = ChildProcess(command, stdin=stdin.child_end, stdout=DEVNULL, stderr=stderr.child_end)
        except OSError as error:
            stdin.close()
            stderr.close()
            raise CrewError(f"a worker process cannot be started: {error.strerror}") from error
        stdin.close_child_end()
        stderr.close_child_end()
        member = self._members[b"%d" % process.pid] = Member(self._started, process, stdin, stderr)
        self._watches.append(self._group.create_task(self._watch(member)))
        self._screen.say(f"{member} started (process {member.pid})")
        return member

    def find(self, pid: bytes) -> Member | None:
        """Return the process with this number, in decimal digits, dead or alive."""
        return self._members.get(pid)

    def kill(self, member: Member) -> None:
        """End it without a warning, as ``kill -9`` does."""
        member.killed = True
        member.process.send_signal(signal.SIGKILL)

    async def end(self) -> None:
        """End all at once, and see that they are gone."""
        for watch in self._watches:
            watch.cancel()
        try:
            await asyncio.gather(*(member.process.kill() for member in self._members.values()))
        finally:
            for member in self._members.values():
                member.stdin.close()
                member.stderr.close()

    async def _watch(self, member: Member) -> None:
        text = b"".join([chunk async for chunk in member.stderr.read()])
        status = await member.process.wait()
        if not member.killed:
            self._losses += 1
            if self._losses > _MAX_LOSSES:
                last = text.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise CrewError(f"the worker processes die again and again; the last one said: {last or 'nothing'}")
            self._screen.say(f"{member} died ({describe_end(status)})", "red")
        self._screen.drop_worker(str(member))
        self.start()
