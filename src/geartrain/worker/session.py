"""One connection of a worker, from connect to close."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from geartrain.errors import LocalProtocolError
from geartrain.fork_safety import check_process
from geartrain.printable import printable
from geartrain.protocol.heartbeat import Heartbeat, Verdict
from geartrain.protocol.packets import PacketType, describe
from geartrain.protocol.worker import Assignment, WorkerProtocol, check_size
from geartrain.protocol.worker_state import WorkerState
from geartrain.validation import encode_name

if TYPE_CHECKING:
    from geartrain.connection import Connection
    from geartrain.errors import JobTooLargeError
    from geartrain.worker.function import Function
    from geartrain.worker.link import Link
    from geartrain.worker.statistics import Counts

__all__ = ["Session"]

_LARGE = 64 * 1024  # bytes from which a thread waits until the loop has taken what it sends


class Session:
    """
    The life of one connection; a new connection is a new session, so no job is carried over from an old one.

    Attributes:
        protocol: The core.
        server: The job server's address, as users read it.
        lost: The connection is gone.
        heard: The job server has sent something.
        connected_since: In UTC.
        counts: What became of the job server's jobs.
        asked: Its grabs that are unanswered (this and the next two belong to :class:`~geartrain.worker.slots.Slots`).
        reserved: Slots kept for what its grabs may bring.
        in_line: It waits for its turn to grab.
    """

    def __init__(self, connection: Connection, link: Link) -> None:
        self.connection = connection
        self.server: str = link.name
        self._process = os.getpid()
        self._thread = threading.get_ident()
        self.connected_since: datetime = datetime.now(UTC)
        self.counts: Counts = link.counts
        self.lost: bool = False
        self.heard: bool = False
        self.asked = 0
        self.reserved = 0
        self.in_line = False
        self._link = link
        self._loop = link.loop
        self._slots = link.slots
        self._logger = link.options.logger
        self._heartbeat: Heartbeat | None = None
        self._overdue = False  # the job server keeps us waiting, and the slots have been lent to others
        self._kept_waiting: int | None = None  # the answers at the last tick, if a grab was unanswered then
        self._pause: asyncio.TimerHandle | None = None
        self._waiting: list[Callable[[], None]] = []  # called when the job server takes more, or is gone
        self._arrived: asyncio.Future[None] | None = None  # done when all results are known to have arrived
        self.max_packet_size: int = link.options.max_packet_size
        self.protocol: WorkerProtocol = WorkerProtocol(
            connection.send,
            max_size=self.max_packet_size,
            on_oversize=self._oversize_received,
            on_error=self._error_received,
        )

    def start(self) -> None:
        """Register the abilities and get into the line for jobs."""
        options = self._link.options
        self._set_trace()
        if options.heartbeat is not None:
            self._heartbeat = Heartbeat(options.heartbeat, self._loop.time())
        if options.client_id is not None:
            self.protocol.send_client_id(encode_name("client_id", options.client_id))
        for function in self._link.functions.values():
            self.protocol.send_can_do(function.ability, timeout_ms=function.can_do_timeout)
        self._ask()

    def register(self, function: Function) -> None:
        """Register one more function."""
        self.protocol.send_can_do(function.ability, timeout_ms=function.can_do_timeout)
        self._ask()

    # What the slots ask.

    @property
    def may_grab(self) -> bool:
        """Whether to ask for one more job."""
        return self.protocol.may_grab and not self._overdue and self._pause is None

    def grab(self) -> None:
        """Ask for a job."""
        self.protocol.send_grab()

    # What the clock tells.

    def tick(self, now: float) -> None:
        """See to what no packet tells: a job that has become due, a job server that does not answer."""
        protocol = self.protocol
        if protocol.grabs and protocol.answers == self._kept_waiting:
            self._overdue = True
            self._slots.lend(self)
        self._kept_waiting = protocol.answers if protocol.grabs else None
        if protocol.state is WorkerState.SLEEPING:
            # gearmand 1.1.20 wakes nobody for an EPOCH job that has become due.
            protocol.ask_again()
            self._ask()
        if self._heartbeat is not None:
            self._beat(self._heartbeat, now)

    def _beat(self, heartbeat: Heartbeat, now: float) -> None:
        protocol, connection = self.protocol, self.connection
        verdict = heartbeat.check(
            now,
            pending=(protocol.answers, connection.bytes_received) if protocol.grabs else None,
            received=connection.bytes_received,
            bytes_queued=connection.bytes_queued,
            bytes_written=connection.bytes_taken,
        )
        if verdict is Verdict.LOST:
            interval = self._link.options.heartbeat
            connection.abort(TimeoutError(f"{self.server} did not reply within {interval:g} s"))
        elif verdict is Verdict.SILENT:
            protocol.send_probe()

    # What the connection tells.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the job server: start the jobs that came, and ask for more, or sleep."""
        protocol = self.protocol
        if not self.heard:
            self.heard = True
            self._link.heard(self)
        self._set_trace()
        grabs = protocol.grabs
        now = self._loop.time()
        jobs = protocol.receive_data(data, now)
        if protocol.failure is not None:
            self.connection.abort(protocol.failure)
            return
        answers = grabs - protocol.grabs
        if answers:
            self._overdue = False
            self._slots.settle(self, answers, jobs)
        if protocol.grab_after > now and self._pause is None:
            self._pause = self._loop.call_at(protocol.grab_after, self._go_on, context=Context())
        if protocol.may_sleep and self._slots.open:
            protocol.send_pre_sleep(now)
        self._ask()
        if self._arrived is not None and not protocol.probes:
            self._end_wait()

    def writing_resumed(self) -> None:
        """Let those who drain go on."""
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def connection_lost(self, error: Exception | None) -> None:
        """Give back what was reserved. The jobs that run go on, but what they say arrives nowhere."""
        self.close()
        self._link.session_lost(self, error)

    # What the layers above ask.

    def close(self) -> None:
        """Let go of jobs, slots and timers; the connection is done with."""
        if self.lost:
            return
        self.lost = True
        self.protocol.close()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.writing_resumed()
        self._end_wait()
        self._slots.leave(self)

    async def drain(self) -> None:
        """
        Wait until the job server has taken most of what was sent, or is gone.

        Raises:
            LocalProtocolError: If this is not the worker's event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise LocalProtocolError(
                "a WorkerJob is drained in the event loop of its worker; from here use asyncio.run_coroutine_threadsafe"
            )
        await asyncio.sleep(0)  # what was sent in this turn is written at its end; only then is it known to be too much
        if not self.connection.writable and not self.lost:
            resumed = asyncio.Event()
            self._waiting.append(resumed.set)
            await resumed.wait()

    def send_update(self, job: Assignment, kind: PacketType, data: bytes) -> None:
        """
        Send something about a job; in a thread wait until most of it is taken, if it is much.

        Raises:
            JobTooLargeError: If it is longer than ``max_packet_size``.
            LocalProtocolError: If this process was forked from the worker's.
        """
        check_process(self._process, "this WorkerJob")  # nothing that is sent here would ever leave
        if threading.get_ident() == self._thread:
            self.protocol.send_update(job, kind, data)
            return
        check_size("update", data, self.max_packet_size)
        taken = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._send_for_thread, job, kind, data, taken)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            return  # the thread has outlived the worker
        if len(data) >= _LARGE or not self.connection.writable:
            taken.wait()

    def _send_for_thread(self, job: Assignment, kind: PacketType, data: bytes, taken: threading.Event) -> None:
        try:
            self.protocol.send_update(job, kind, data)
        finally:
            if self.connection.writable or self.lost:
                taken.set()
            else:
                self._waiting.append(taken.set)

    async def deliver(self) -> None:
        """Wait until the job server has served all that was sent to it, or is gone."""
        # Closing a socket while something unread lies in it, such as a NOOP, resets the connection, and a result on its
        # way may be lost. Requests are served in order, so the answer to a probe shows that all before it has arrived.
        if self.protocol.ended and not self.lost:
            self.protocol.send_probe()
            self._arrived = self._loop.create_future()
            await self._arrived

    # Inside.

    def _ask(self) -> None:
        if self.may_grab:
            self._slots.want(self)
        self._slots.share()

    def _end_wait(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _go_on(self) -> None:
        self._pause = None
        self._ask()

    def _set_trace(self) -> None:
        self.protocol.trace = self._trace if self._logger.isEnabledFor(logging.DEBUG) else None

    def _trace(self, direction: str, kind: int, body: bytes) -> None:
        self._logger.debug("%s %s %s", self.server, direction, describe(kind, body))

    def _oversize_received(self, job: Assignment, error: JobTooLargeError) -> None:
        self.counts["taken"] += 1
        self.counts["raised"] += 1
        self._logger.warning(
            "%s: did not run the job %s of '%s': %s", self.server, printable(job.handle), printable(job.function), error
        )

    def _error_received(self, code: bytes, text: bytes) -> None:
        self.counts["refused"] += 1
        if self._logger.isEnabledFor(logging.WARNING):
            words = printable(code), printable(text)
            self._logger.warning("%s refused what was said about a job: %s %s", self.server, *words)
