"""One process that has connections of its own, as the worker sees it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from geartrain.errors import JobFailedError
from geartrain.fork_safety import protect_on_fork
from geartrain.printable import printable
from geartrain.protocol.packets import PacketType, encode
from geartrain.worker.prefork.board import Board, BoardJob, create_board_file
from geartrain.worker.prefork.control import ControlSocket
from geartrain.worker.prefork.log_records import rebuild_record
from geartrain.worker.prefork.main import PreforkMain
from geartrain.worker.prefork.messages import Connected, Disconnected, Finished, Logged, Message, Replied, Stop
from geartrain.worker.prefork.sent_bytes import count_sent
from geartrain.worker.process_hooks import STOP_WITHIN
from geartrain.worker.processes.interpreter import END_WITHIN, Interpreter

if TYPE_CHECKING:
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.job_metrics import JobMetrics, Outcome
    from geartrain.worker.outcomes import Outcomes
    from geartrain.worker.prefork.settings import ProcessSettings

__all__ = ["PreforkProcess"]

_OVERDUE: Final = 1.0  # seconds after its timeout at which a job that its process has not ended is ended here


class ProcessConnection:
    """
    A connection of the process.

    Attributes:
        server: The index of the job server.
        socket: A copy of its socket.
        connected_since: In UTC.
        has_replied: The job server has sent something.
    """

    def __init__(self, server: int, sock: socket.socket) -> None:
        self.server: int = server
        self.socket: socket.socket = sock
        self.connected_since: datetime = datetime.now(UTC)
        self.has_replied: bool = False


class PreforkProcess:
    """
    Starts a process, watches it, and ends its job if the process dies.

    :meth:`run` blocks and is for a thread; the others may be called from any thread.

    Args:
        settings: What the process needs to know.
        counters: The counters of the job servers, in the order of the board.
        outcomes: Describes errors for clients.
        logger: Receives what the process logs.
        metrics: Records the job that a process was running when it died; ``None`` if nothing is recorded.
        leave: Called with the socket of each connection that the process has left, and with packets to be sent on it.

    Attributes:
        connections: Its connections, by number.
        has_connected: It has had a connection.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        counters: Sequence[WorkerCounters],
        outcomes: Outcomes,
        logger: logging.Logger,
        metrics: JobMetrics | None,
        leave: Callable[[socket.socket, bytes], None],
    ) -> None:
        self._settings = settings
        self._function = settings.function
        self._counters = counters
        self._outcomes = outcomes
        self._logger = logger
        self._leave = leave
        self._metrics = metrics
        self._interpreter = Interpreter(self._function.name)
        self._lock = threading.Lock()  # of what follows
        self._control: ControlSocket | None = None
        self._board: Board | None = None
        self._counted: list[tuple[int, ...]] = [(0,) * 6 for _ in counters]
        self._is_stopping = False
        self._returns_job = False
        self._has_finished = False
        self._timed_out = False
        self.connections: dict[int, ProcessConnection] = {}
        self.has_connected: bool = False
        protect_on_fork(self, PreforkProcess._descriptors)

    def run(self) -> ChildProcessError | None:
        """
        Run the process until it ends; then end its job and its connections.

        Returns:
            How it has died, or ``None`` if it was to end.

        Raises:
            OSError: If it could not be started.
        """
        servers = len(self._settings.servers)
        descriptor = create_board_file(servers)
        try:
            self._board = Board(descriptor, servers)
            connection = self._interpreter.start(
                lambda own: PreforkMain(own, descriptor, self._settings), (descriptor,)
            )
            with self._lock:
                self._control = ControlSocket(connection)
            if self._is_stopping:
                self.stop()
            self._watch()
            return self._end()
        finally:
            os.close(descriptor)
            self._interpreter.end(within=0)
            with self._lock:
                self._close()

    def stop(self) -> None:
        """Have the process take no more jobs, and end when the running one has ended."""
        self._is_stopping = True
        with self._lock:
            control = self._control
        if control is not None:
            with contextlib.suppress(OSError):  # it is ending
                control.send(Stop())

    def return_job(self) -> None:
        """Kill the process; its job returns to the job server."""
        self._returns_job = True
        self._interpreter.kill()

    def transfer_counters(self) -> None:
        """Add what the process has counted since the last call to the worker's counters."""
        with self._lock:
            self._transfer_counters()

    def _transfer_counters(self) -> None:
        if self._board is None:
            return
        for index, counters in enumerate(self._counters):
            counted = self._board.read_counters(index)
            taken, completed, failed, raised, lost, refused = (
                now - before for now, before in zip(counted, self._counted[index], strict=True)
            )
            self._counted[index] = counted
            counters.taken += taken
            counters.completed += completed
            counters.failed += failed
            counters.raised += raised
            counters.lost += lost
            counters.refused += refused

    # Watching.

    def _watch(self) -> None:
        assert self._control is not None
        assert self._interpreter.exit_descriptor is not None
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._interpreter.exit_descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._find_poll_timeout())}
            if self._interpreter.exit_descriptor in ready:
                while not self._control.is_empty and self._receive():
                    pass
                return
            if ready and not self._receive():
                return
            self._check_overdue()

    def _find_poll_timeout(self) -> float | None:
        """Return after how many milliseconds a job may be overdue."""
        timeout = self._function.timeout
        if timeout is None or self._timed_out:
            return None
        assert self._board is not None
        now = time.monotonic()
        return max(min(self._board.due - now, timeout) + _OVERDUE, 0) * 1000 + 1

    def _receive(self) -> bool:
        """Handle messages; return whether more may come."""
        assert self._control is not None
        messages = self._control.receive()
        if messages is None:
            return False
        for message, sock in messages:
            self._handle(message, sock)
        return True

    def _handle(self, message: Message, sock: socket.socket | None) -> None:
        match message:
            case Connected(server, number):
                assert sock is not None
                self.connections[number] = ProcessConnection(server, sock)
                self.has_connected = True
            case Replied(number):
                self.connections[number].has_replied = True
            case Disconnected(number):
                self.connections.pop(number).socket.close()
            case Logged():
                self._log(message)
            case Finished():
                self._has_finished = True
            case Stop():
                raise AssertionError("a process sends no Stop")

    def _log(self, logged: Logged) -> None:
        record = rebuild_record(logged, self._logger.name, f"geartrain {self._function.name}")
        if self._logger.isEnabledFor(record.levelno):
            self._logger.handle(record)

    def _check_overdue(self) -> None:
        """Kill the process if it has not ended its job in time: the function does not let its other thread run."""
        assert self._board is not None
        job = self._board.read_job()
        if self._timed_out or job is None or time.monotonic() < job.due + _OVERDUE:
            return
        # Its next job must not be killed, so it is stopped before the board is read again.
        pid = self._interpreter.pid
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        again = self._board.read_job()
        if again is not None and again.number == job.number:
            self._timed_out = True
            self._interpreter.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # The end.

    def _end(self) -> ChildProcessError | None:
        """End the job and the connections of a process that has ended, or has closed its socket."""
        if self._has_finished:
            self._interpreter.end(within=END_WITHIN if self._settings.hooks.stop is None else STOP_WITHIN)
            error = None
        else:
            error = self._interpreter.make_death_error()
            self._interpreter.end(within=0)
        assert self._board is not None
        job = None if self._returns_job else self._board.read_job()
        if job is not None and not self._can_end(job):
            job = None
        self._count_job(raised=job is not None)
        with self._lock:
            connections, self.connections = self.connections, {}
        for number, connection in connections.items():
            if self._returns_job:
                _shut_down(connection.socket)
            elif job is None or job.connection != number:
                self._leave(connection.socket, b"")
            else:
                self._leave(connection.socket, self._make_last_packets(job, error))
        return None if self._is_stopping or self._returns_job else error

    def _can_end(self, job: BoardJob) -> bool:
        """Return whether a job has not ended, and its end can be sent."""
        assert self._board is not None
        connection = self.connections.get(job.connection)
        if connection is None:
            return False  # it is lost
        boundaries = self._board.read_sending(job.server)
        sent = count_sent(connection.socket) if boundaries is not None else None
        if boundaries is not None and sent not in boundaries:
            return False  # the job server has part of a packet, and would take any other one for the rest of it
        taken, *ended, _ = self._board.read_counters(job.server)
        # The process counts a job as ended before it sends the last packet.
        return taken > sum(ended) or (boundaries is not None and sent == boundaries[0])

    def _count_job(self, *, raised: bool) -> None:
        """Count the job that the process was running, if any."""
        with self._lock:
            self._transfer_counters()
            for counters, (taken, *ended, _) in zip(self._counters, self._counted, strict=True):
                if taken > sum(ended):
                    outcome: Outcome = "raised" if raised else "lost"
                    counters.count(outcome)
                    if self._metrics is not None:
                        self._metrics.count_job(self._function.name, outcome)

    def _make_last_packets(self, job: BoardJob, error: Exception | None) -> bytes:
        """Return what ends a job."""
        if self._timed_out:
            error = self._function.make_timeout_error()
            if self._function.on_timeout == "fail":
                error = JobFailedError(str(error))
        assert error is not None
        self._logger.error(
            "the job %s of %r on %s ended: %s: %s",
            printable(job.handle),
            self._function.name,
            self._settings.servers[job.server],
            type(error).__name__,
            error,
            extra={
                "function": self._function.name,
                "handle": job.handle.decode("utf-8", "surrogateescape"),
                "server": str(self._settings.servers[job.server]),
            },
        )
        failure = self._outcomes.describe(error)
        if not failure.is_exception:
            packets = encode(PacketType.WORK_FAIL, job.handle)
            # A job server whose jobs do not end with WORK_EXCEPTION is Perl's, which does not know WORK_WARNING.
            return (
                encode(PacketType.WORK_WARNING, job.handle, failure.text) + packets
                if job.exception_ends_job
                else packets
            )
        packets = encode(PacketType.WORK_EXCEPTION, job.handle, failure.text)
        return packets if job.exception_ends_job else packets + encode(PacketType.WORK_FAIL, job.handle)

    def _close(self) -> None:
        for connection in self.connections.values():
            connection.socket.close()
        self.connections = {}
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def _descriptors(self) -> Iterable[int]:
        return [connection.socket.fileno() for connection in self.connections.values()]


def _shut_down(connection: socket.socket) -> None:
    """Close a connection even if a copy of the process still has it."""
    with connection, contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
