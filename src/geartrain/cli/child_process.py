"""Child processes that are killed together with everything they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from subprocess import Popen
from typing import Any

__all__ = ["ChildProcess"]


class ChildProcess:
    """
    A process in its own session and process group, so that Ctrl-C does not reach it and its group can be killed.

    asyncio's subprocesses are unsuitable: in Python 3.11 their ``wait`` also waits for every process that inherited a
    pipe, and they reap the process before its group can be killed, when its ID may already belong to another group.

    Requires a running event loop. The creator must eventually call :meth:`kill`.

    Args:
        command: The program and its arguments.
        options: Options of :class:`subprocess.Popen`.

    Raises:
        OSError: If the process cannot be started.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._popen = Popen(command, start_new_session=True, **options)  # noqa: S603  # running commands is its purpose
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._reaped = False
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, an old kernel, or out of descriptors
            threading.Thread(target=self._wait_in_thread, daemon=True).start()
        else:
            self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._popen.pid

    async def wait_for_exit(self) -> None:
        """Wait until the process has exited. Processes that it started may still be running."""
        await self._exited.wait()

    async def wait(self) -> int:
        """Wait for the process to exit, kill what it started, and return its exit status, negative for a signal."""
        await self.wait_for_exit()
        return await self.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process unless it has exited."""
        self._send(os.kill, number)

    async def kill(self) -> int:
        """
        Kill the process and everything in its group, and return its exit status, negative for a signal.

        If cancelled, it still waits until the process has exited before it raises.
        """
        self._send(os.killpg, signal.SIGKILL)
        exiting = asyncio.ensure_future(self._exited.wait())
        cancelled: asyncio.CancelledError | None = None
        while not exiting.done():
            try:
                await asyncio.wait([exiting])
            except asyncio.CancelledError as error:
                cancelled = error
        self._reaped = True
        status = self._popen.wait()
        if cancelled is not None:
            raise cancelled
        return status

    def _send(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        # Before the process is reaped, its ID cannot be reused for another process or group.
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set()

    def _wait_in_thread(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._exited.set)
