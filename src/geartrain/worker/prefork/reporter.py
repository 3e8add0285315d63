"""Shows the worker what this process does."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Final

from geartrain.worker.prefork.board import Board, BoardJob
from geartrain.worker.prefork.messages import Connected, Disconnected, Replied

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.prefork.control import ControlSocket
    from geartrain.worker.running_job import RunningJob
    from geartrain.worker.session import WorkerSession

__all__ = ["ProcessReporter", "end_process_group"]

_RETRY: Final = 0.05  # seconds after which a process looks again whether its last packet has been written


class _Writes:
    """Shows that a job server may have received part of a packet, and what the packets were counted as."""

    def __init__(self, board: Board, server: int, counters: WorkerCounters) -> None:
        self._board = board
        self._server = server
        self._counters = counters

    def on_write(self, before: int, after: int) -> None:
        self._board.set_counters(self._server, self._counters)
        self._board.set_sending(self._server, before, after)

    def on_written(self) -> None:
        self._board.clear_sending(self._server)


class ProcessReporter:
    """
    The :class:`~geartrain.worker.observer.RunObserver` of a process with connections of its own.

    It writes jobs and counters to the board, and sends connections through the control socket. When a job has timed
    out, the process cannot stop its function, so it ends itself.

    Args:
        board: The board.
        control: The socket to the worker.
        counters: The counters of the job servers, in the order of the board.

    Attributes:
        accepts_jobs: No job has timed out.
    """

    def __init__(
        self, board: Board, control: ControlSocket, counters: Sequence[tuple[Address, WorkerCounters]]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._board = board
        self._control = control
        self._indexes = {str(address): index for index, (address, _) in enumerate(counters)}
        self._counters = [each for _, each in counters]
        self._connections: dict[WorkerSession, tuple[int, int]] = {}  # index of the server, number
        self._connection_numbers = itertools.count(1)
        self._job_numbers = itertools.count(1)
        self._current: RunningJob | None = None
        self.accepts_jobs: bool = True

    def show_counters(self) -> None:
        """Write all counters to the board."""
        for index, counters in enumerate(self._counters):
            self._board.set_counters(index, counters)

    def on_tick(self) -> None:
        """Show what was counted without a job, such as ERRORs."""
        self.show_counters()

    def on_connected(self, session: WorkerSession) -> None:
        """Pass the socket to the worker, before any job can arrive on it."""
        sock = session.connection.socket
        if sock is None:
            return  # it has been lost already
        index = self._indexes[session.server]
        self._connections[session] = index, next(self._connection_numbers)
        self._board.clear_sending(index)
        session.connection.write_observer = _Writes(self._board, index, self._counters[index])
        with suppress(OSError):  # the worker has ended
            self._control.send(Connected(*self._connections[session]), sock.fileno())

    def on_first_bytes(self, session: WorkerSession) -> None:
        """Pass on that the job server is there."""
        if session in self._connections:
            with suppress(OSError):
                self._control.send(Replied(self._connections[session][1]))

    def on_disconnected(self, session: WorkerSession) -> None:
        """Have the worker close its copy of the socket."""
        if (connection := self._connections.pop(session, None)) is not None:
            with suppress(OSError):
                self._control.send(Disconnected(connection[1]))
        self.show_counters()

    def on_job_started(self, running: RunningJob, timeout: float | None) -> None:
        """Show the job."""
        session = running.session
        connection = self._connections.get(session)
        if connection is None:
            return  # it is lost already
        self._current = running
        index, number = connection
        self._board.set_counters(index, self._counters[index])
        self._board.set_job(
            BoardJob(
                next(self._job_numbers),
                index,
                number,
                math.inf if timeout is None else self._loop.time() + timeout,
                session.protocol.exception_ends_job,
                running.assignment.handle,
            )
        )

    def on_job_ended(self, running: RunningJob) -> None:
        """Show that there is no job, unless the next one has already begun."""
        if running is self._current:
            self._current = None
            self._board.clear_job()

    def on_job_expired(self) -> None:
        """Start no other job."""
        self.accepts_jobs = False

    def on_expired_job_reported(self, running: RunningJob) -> None:
        """End this process: the function may never return."""
        index = self._indexes[running.server]
        if self._board.read_sending(index) is not None and not running.session.is_closed:
            running.session.connection.flush()
            self._loop.call_later(_RETRY, self.on_expired_job_reported, running, context=Context())
            return
        self._board.clear_job()
        self.show_counters()
        end_process_group()


def end_process_group() -> None:
    """Kill this process and what the function has started."""
    os.killpg(os.getpid(), signal.SIGKILL)
