"""One connection of a worker to a job server: registering, grabbing, heartbeat, sending."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final, Protocol

from geartrain.errors import LocalProtocolError
from geartrain.fork_safety import check_process
from geartrain.mailbox import Mailbox
from geartrain.printable import printable
from geartrain.protocol.heartbeat import Verdict
from geartrain.protocol.worker import Assignment, WorkerProtocol, check_size
from geartrain.protocol.worker_state import WorkerState
from geartrain.session import Session
from geartrain.validation import encode_name
from geartrain.worker.config import WorkerConfig, make_client_id

if TYPE_CHECKING:
    from geartrain.connection import Connection
    from geartrain.errors import JobTooLargeError
    from geartrain.protocol.packets import PacketType
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.function import Function
    from geartrain.worker.guard import Guard
    from geartrain.worker.slots import Slots
    from geartrain.worker.thread_reader import ThreadReader

__all__ = ["SessionListener", "WorkerSession"]

_LARGE: Final = 64 * 1024  # unsent bytes from which a thread waits until the loop has sent them
_LOOP_CHECK: Final = 1.0  # seconds after which a waiting thread checks whether the loop is closed


class SessionListener(Protocol):
    """Notified of what happens to a session."""

    def on_first_bytes(self, session: WorkerSession) -> None:
        """Called when the job server has sent something for the first time."""

    def on_session_lost(self, session: WorkerSession, error: Exception | None) -> None:
        """Called once when the connection is lost, with the error if there is one."""


class WorkerSession(Session):
    """
    One connection of a worker.

    The event loop reads from it; the threads of jobs send as well. The guard protects what they share.

    Args:
        connection: The connection.
        server: The job server's address, as users read it.
        config: The worker's options.
        slots: Decide when the session may grab.
        guard: Guards the slots, the protocol and what the connection has queued.
        counters: The jobs of this job server.
        listener: Notified of what happens.
        reader: Reads the connection in the threads of jobs if that is possible; ``None`` to read in the event loop.

    Attributes:
        protocol: The core.
        connected_since: In UTC.
    """

    def __init__(
        self,
        connection: Connection,
        server: str,
        config: WorkerConfig,
        slots: Slots[WorkerSession, Assignment],
        guard: Guard,
        counters: WorkerCounters,
        listener: SessionListener,
        reader: ThreadReader | None,
    ) -> None:
        super().__init__(connection, server, config.logger, config.heartbeat)
        self.counters = counters
        self.connected_since: datetime = datetime.now(UTC)
        self.max_packet_size: int = config.max_packet_size
        self._config = config
        self._slots = slots
        self._guard = guard
        connection.lock = guard.lock
        self._account = slots.open_account(self)
        self._listener = listener
        self._reader = reader
        self._is_read_in_threads = False
        self._names: dict[bytes, str] = {}  # of the registered functions, without the prefix, by ability
        self._process = os.getpid()
        self._thread = get_ident()
        self._is_overdue = False  # the job server is slow to reply, and its slots have been reclaimed
        self._replies_at_tick: int | None = None  # replies at the last tick, if a grab was pending then
        self._is_throttled = False  # no grabs until `_grab_timer` runs
        self._grab_timer: asyncio.TimerHandle | None = None
        self._on_writable: list[Callable[[], None]] = []  # called once the connection is writable, or lost
        self._delivered: asyncio.Future[None] | None = None  # done when all results are known to have arrived
        self.protocol: WorkerProtocol = WorkerProtocol(
            connection.send,
            max_size=self.max_packet_size,
            on_oversize=self._on_oversize,
            on_error=self._on_error,
        )

    def start(self, functions: Iterable[Function]) -> None:
        """Register the functions and request jobs."""
        config = self._config
        self.start_heartbeat()
        with self._guard:
            self.protocol.trace = self.packet_trace()
            self.protocol.send_client_id(encode_name("client_id", config.client_id or make_client_id()))
            for function in functions:
                self._names[function.ability] = function.name
                self.protocol.send_can_do(function.ability, timeout_ms=function.can_do_timeout)
            self._request_jobs()
        descriptor = self.connection.read_in_threads() if self._reader is not None else None
        if self._reader is not None and descriptor is not None:
            self._is_read_in_threads = True
            self._reader.add(self, descriptor)

    def register(self, function: Function) -> None:
        """Register one more function."""
        with self._guard:
            self._names[function.ability] = function.name
            self.protocol.send_can_do(function.ability, timeout_ms=function.can_do_timeout)
            self._request_jobs()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is lost, as far as can be known now. Any thread may ask."""
        self.read()
        return self.is_closed or self.connection.is_broken

    @property
    def has_replied(self) -> bool:
        """Whether the job server has replied to a request."""
        return self.protocol.answers > 0

    # Called by the slots (Grabber).

    @property
    def may_grab(self) -> bool:
        """Whether to request one more job."""
        return self.protocol.may_grab and not self._is_overdue and not self._is_throttled

    def grab(self) -> None:
        """Request a job."""
        self.protocol.send_grab()
        if get_ident() != self._thread:
            self.connection.flush()  # the slot may come from a job of another connection

    # Periodic work.

    def on_tick(self, now: float) -> None:
        """Grab delayed jobs, reclaim the slots of a slow job server, and check the heartbeat."""
        protocol = self.protocol
        self.read()  # perhaps all threads are busy
        with self._guard:
            if protocol.grabs and protocol.answers == self._replies_at_tick:
                self._is_overdue = True
                self._slots.reclaim(self._account)
            self._replies_at_tick = protocol.answers if protocol.grabs else None
            if protocol.state is WorkerState.SLEEPING:
                # gearmand 1.1.20 wakes no worker for an EPOCH job that has become due.
                protocol.request_grab()
                self._request_jobs()
        received = self.connection.bytes_received
        verdict = self.check_heartbeat(
            now, pending=(protocol.answers, received) if protocol.grabs else None, received=received
        )
        if verdict is Verdict.LOST:
            self.fail_unresponsive()
        elif verdict is Verdict.SILENT:
            with self._guard:
                protocol.send_probe()

    # Connection callbacks (geartrain.connection.Receiver).

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the job server: start the jobs it assigned, then grab more or sleep."""
        with self._guard.lock:
            self._receive(data, self.loop.time())
        if self._guard.deferred:
            self._guard.run_deferred()

    def read(self) -> None:
        """Handle what has arrived, if threads read the connection. Any thread may call this."""
        if not self._is_read_in_threads:
            return
        with self._guard.lock:
            data = self.connection.read()
            if data:
                self._receive(data, self.loop.time())
                self.connection.flush()
            elif self.connection.is_broken:
                self.protocol.close()  # from now on results count as lost; the event loop does the rest
        if self._guard.deferred:
            self._guard.run_deferred()

    def _receive(self, data: bytes, now: float) -> None:
        protocol, deferred = self.protocol, self._guard.deferred
        if not self.has_received:
            self.has_received = True
            deferred.append(partial(self._listener.on_first_bytes, self))
        protocol.trace = self.packet_trace()
        grabs = protocol.grabs
        jobs = protocol.receive_data(data, now)
        if protocol.failure is not None:
            deferred.append(partial(self.connection.abort, protocol.failure))
            return
        replies = grabs - protocol.grabs
        if replies:
            self._is_overdue = False
            self._slots.on_replies(self._account, replies, jobs)
        if protocol.grab_after > now and not self._is_throttled:
            self._is_throttled = True
            deferred.append(self._set_grab_timer)
        if protocol.may_sleep and self._slots.is_open:
            protocol.send_pre_sleep(now)
        self._request_jobs()
        if self._delivered is not None and not protocol.probes:
            deferred.append(self._end_delivery)

    def writing_resumed(self) -> None:
        """Resume whoever waits for the connection to be writable."""
        callbacks, self._on_writable = self._on_writable, []
        for callback in callbacks:
            callback()

    def on_lost(self, error: Exception | None) -> None:
        """Notify the listener. Running jobs go on, but their reports are dropped."""
        self._listener.on_session_lost(self, error)

    # Called by the channel and by jobs.

    def close(self) -> None:
        """Drop jobs, slots and timers, and ignore the connection from now on."""
        if self.is_closed:
            return
        super().close()
        if self._reader is not None:
            self._reader.remove(self)
        with self._guard:
            self.protocol.close()
        if self._grab_timer is not None:
            self._grab_timer.cancel()
            self._grab_timer = None
        self.writing_resumed()
        self._end_delivery()
        with self._guard:
            self._slots.remove(self._account)

    async def drain(self) -> None:
        """
        Wait until the job server has taken most of what was sent, or the connection is lost.

        Raises:
            LocalProtocolError: If this is not the worker's event loop.
        """
        if asyncio.get_running_loop() is not self.loop:
            raise LocalProtocolError(
                "WorkerJob.drain must be called in the worker's event loop; "
                "from here use asyncio.run_coroutine_threadsafe"
            )
        await asyncio.sleep(0)  # what was sent in this turn is written at its end; only then can the buffer be full
        if not self.connection.writable and not self.is_closed:
            resumed = asyncio.Event()
            self._on_writable.append(resumed.set)
            await resumed.wait()

    def send_update(self, job: Assignment, kind: PacketType, data: bytes) -> None:
        """
        Send an update about a job. A thread that sends much waits until most of it has been taken.

        Raises:
            JobTooLargeError: If it is longer than ``max_packet_size``.
            LocalProtocolError: If this process was forked from the worker's.
        """
        check_process(self._process, "this WorkerJob")  # a forked process would never send it
        check_size("update", data, self.max_packet_size)
        with self._guard.lock:
            self.protocol.send_update(job, kind, data)
            if get_ident() == self._thread:
                return
            self.connection.flush()
            is_behind = self.connection.unsent >= _LARGE
        if is_behind:
            self._wait_until_writable()

    def _wait_until_writable(self) -> None:
        """Wait in a thread until the job server has taken most of what was sent, or the connection is lost."""
        taken = Mailbox[None]()
        try:
            self.loop.call_soon_threadsafe(self._notify_when_writable, taken, context=Context())
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            return  # the thread has outlived the worker
        while not self.loop.is_closed():
            with suppress(TimeoutError):
                taken.get(_LOOP_CHECK)
                return

    def _notify_when_writable(self, taken: Mailbox[None]) -> None:
        self.connection.flush()
        if self.connection.writable or self.is_closed:
            taken.put(None)
        else:
            self._on_writable.append(partial(taken.put, None))

    async def wait_until_delivered(self) -> None:
        """Wait until the job server has handled everything that was sent, or the connection is lost."""
        # Closing a socket with unread data, such as a NOOP, resets the connection, and a result in transit may be
        # lost. Requests are handled in order, so the reply to a probe shows that everything before it has arrived.
        if self.protocol.ended and not self.is_closed:
            with self._guard:
                self.protocol.send_probe()
            self._delivered = self.loop.create_future()
            await self._delivered

    # Internals.

    def _request_jobs(self) -> None:
        if self.may_grab:
            self._slots.enqueue(self._account)
        self._slots.distribute()

    def _end_delivery(self) -> None:
        if self._delivered is not None and not self._delivered.done():
            self._delivered.set_result(None)

    def _set_grab_timer(self) -> None:
        if not self.is_closed:
            self._grab_timer = self.loop.call_at(self.protocol.grab_after, self._on_grab_timer, context=Context())

    def _on_grab_timer(self) -> None:
        self._grab_timer = None
        with self._guard:
            self._is_throttled = False
            self._request_jobs()

    def _on_oversize(self, job: Assignment, error: JobTooLargeError) -> None:
        self.counters.taken += 1
        self.counters.raised += 1
        if self._config.metrics is not None:
            self._config.metrics.count_job(self._names[job.function], "raised")
        self._warn(
            "%s: did not run the job %s of '%s': %s", self.server, printable(job.handle), printable(job.function), error
        )

    def _on_error(self, code: bytes, text: bytes) -> None:
        self.counters.refused += 1
        if self.logger.isEnabledFor(logging.WARNING):
            self._warn("%s refused a packet about a job: %s %s", self.server, printable(code), printable(text))

    def _warn(self, message: str, *args: object) -> None:
        self._guard.deferred.append(partial(self.logger.warning, message, *args, extra={"server": self.server}))
