"""
The worker's side of one connection: abilities, grabbing and sleeping, and one final packet for each job.

It does not decide when to grab, because that depends on the other job servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from geartrain.errors import JobTooLargeError, LocalProtocolError, RemoteProtocolError
from geartrain.printable import printable
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE, Decoder
from geartrain.protocol.packets import (
    HEADER,
    MAX_NAME,
    OVERSIZE,
    REQUEST,
    RESPONSE,
    PacketType,
    check_limits,
    encode,
    max_body,
    split,
)
from geartrain.protocol.wakeup_throttle import WakeupThrottle
from geartrain.protocol.worker_state import TRANSITIONS, WorkerState

__all__ = [
    "MAX_DENOMINATOR",
    "Assignment",
    "WorkerProtocol",
    "check_size",
    "encode_status",
]

MAX_DENOMINATOR: Final = 11  # characters; gearmand neither answers nor forwards a longer one

_MAX_WINDOW: Final = 256  # unanswered grabs on one connection
_SEPARATE_WRITE: Final = (
    64 * 1024
)  # bytes; longer data is sent separately from its header, because copying it costs more than a write


def encode_status(numerator: bytes, denominator: bytes) -> bytes:
    """
    Join the numbers of a WORK_STATUS.

    Raises:
        LocalProtocolError: If the denominator is longer than :data:`MAX_DENOMINATOR`.
    """
    if len(denominator) > MAX_DENOMINATOR:
        raise LocalProtocolError(f"a denominator must have at most {MAX_DENOMINATOR} characters, got {denominator!r}")
    return numerator + b"\0" + denominator


class Assignment(NamedTuple):
    """A job as the job server assigned it; every packet about the job refers to it."""

    handle: bytes
    function: bytes
    unique: bytes
    workload: bytes


class WorkerProtocol:
    """
    One connection of a worker.

    Args:
        send: Called with the bytes to send.
        max_size: The maximum size in bytes of a workload, a result or an update. A job with a larger workload is ended
            with WORK_EXCEPTION, and not returned.
        on_oversize: Called with each job whose workload is too large, without the workload, and with its error.
        on_error: Called with code and text of each ERROR that does not answer a grab. It is never fatal: a job had been
            reclaimed (JOB_NOT_FOUND), or the job server does not support what was sent.

    Attributes:
        trace: Called with each packet, as ``("<" or ">", type, body)``, for the log.
        state: The state of the worker at this job server.
        grabs: The number of unanswered grabs.
        answers: The number of direct replies received.
        grab_after: No grab should be sent before this time, because it would be useless.
        held: The jobs that are assigned and have not ended, by handle.
        ended: The number of jobs for which a final packet was sent.
        dropped: The number of packets not sent because their job was no longer held.
        errors: The number of ERRORs that did not answer a grab.
        unknown: The number of packets of unknown types that were skipped.
        failure: How the job server violated the protocol; everything after it is ignored.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        on_oversize: Callable[[Assignment, JobTooLargeError], None] | None = None,
        on_error: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self._send = send
        self._max_size = max_size
        self._on_oversize = on_oversize
        self._on_error = on_error
        self.trace: Callable[[str, int, bytes], None] | None = None
        self._decoder = Decoder(RESPONSE, max_size, limits=_LIMITS, skipped=_ASSIGNS)
        self._abilities: set[bytes] = set()
        self._grab = PacketType.GRAB_JOB_UNIQ
        self._grab_known = False  # the job server has answered a grab of this type
        self._grab_due = False  # a grab must be sent before the next PRE_SLEEP
        self._empty = False  # the last answer was NO_JOB
        self._window = 1
        self._wakeup_throttle = WakeupThrottle()
        self._now = 0.0
        self._assigned: list[Assignment] = []
        self.state: WorkerState = WorkerState.AWAKE
        self.grabs: int = 0
        self._has_sent_reason = False
        self._refuses_warnings = False
        self._probes = 0
        self._probe_replies = {PacketType.ECHO_RES: 0, PacketType.STATUS_RES: 0}
        self.answers: int = 0
        self.grab_after: float = float("-inf")
        self.held: dict[bytes, Assignment] = {}
        self.ended: int = 0
        self.dropped: int = 0
        self.errors: int = 0
        self.unknown: int = 0
        self.failure: RemoteProtocolError | None = None

    # Sending: the worker.

    def send_client_id(self, client_id: bytes) -> None:
        """Set the name by which the job server lists this connection in ``workers``."""
        self._write(encode(PacketType.SET_CLIENT_ID, client_id))

    def send_can_do(self, function: bytes, *, timeout_ms: int | None = None) -> None:
        """
        Register a function with CAN_DO, or with CAN_DO_TIMEOUT if there is a timeout. A grab is due after it.

        Raises:
            LocalProtocolError: If it is already registered (gearmand would count it twice), is empty or contains a NUL.
        """
        if function in self._abilities:
            raise LocalProtocolError(f"the function {function!r} is already registered")
        # A packet may contain NULs in its only argument; gearmand makes them part of the name.
        if not function or b"\0" in function:
            raise LocalProtocolError(f"a function name must not be empty or contain a NUL, got {function!r}")
        self._move_by_sending(PacketType.CAN_DO)
        self._abilities.add(function)
        self._grab_due = True
        if timeout_ms is None:
            self._write(encode(PacketType.CAN_DO, function))
        else:
            self._write(encode(PacketType.CAN_DO_TIMEOUT, function, b"%d" % timeout_ms))

    @property
    def exception_ends_job(self) -> bool:
        """Whether WORK_EXCEPTION ends a job at this job server, as far as is known. If not, WORK_FAIL must follow."""
        return self._grab is PacketType.GRAB_JOB_UNIQ

    @property
    def may_grab(self) -> bool:
        """Whether another grab may return a job, as far as is known."""
        if self.state is WorkerState.CLOSED or self.grabs >= self._window or not self._abilities:
            return False
        return self._grab_due or not self._empty

    def send_grab(self) -> None:
        """Send GRAB_JOB. Several may be unanswered."""
        self._move_by_sending(PacketType.GRAB_JOB)
        self.grabs += 1
        self._grab_due = False
        self._write(_GRAB_PACKETS[self._grab])

    def request_grab(self) -> None:
        """Make a grab due, although the job server has not sent NOOP."""
        self._grab_due = True

    @property
    def may_sleep(self) -> bool:
        """Whether the only thing left to do is to wait for NOOP."""
        return self.state is WorkerState.AWAKE and self._empty and not self._grab_due

    def send_pre_sleep(self, now: float) -> None:
        """
        Send PRE_SLEEP: wait for NOOP.

        Raises:
            LocalProtocolError: If a grab is unanswered, or none was sent since the last NOOP or CAN_DO. gearmand wakes
                a worker again only after it has sent a grab.
        """
        if self._grab_due:
            raise LocalProtocolError("PRE_SLEEP needs a GRAB_JOB after the last NOOP or CAN_DO")
        self._move_by_sending(PacketType.PRE_SLEEP)
        self._wakeup_throttle.on_sleep(now)
        self._write(_PRE_SLEEP)

    def send_probe(self) -> None:
        """Send two requests that a job server answers immediately; it may ignore either of them."""
        self._probes += 1
        for packet in _PROBE:
            self._write(packet)

    @property
    def probes(self) -> int:
        """The number of probes for which neither request has been answered."""
        return self._probes - max(self._probe_replies.values())

    # Sending: jobs. Each method returns whether the packet was sent. It is dropped if the job is not held: the job or
    # the connection has ended, or the job server has reclaimed the job (CAN_DO_TIMEOUT).

    def send_update(self, job: Assignment, kind: PacketType, data: bytes) -> bool:
        """
        Send WORK_STATUS (with data from :func:`encode_status`), WORK_DATA or WORK_WARNING.

        Returns:
            Whether it was sent.

        Raises:
            JobTooLargeError: If the data is longer than ``max_size``.
        """
        check_size("update", data, self._max_size)
        return self._send_work(kind, job, data)

    def send_complete(self, job: Assignment, data: bytes) -> bool:
        """End the job with WORK_COMPLETE; raise ``JobTooLargeError`` if the result is longer than ``max_size``."""
        if len(data) > self._max_size:  # not check_size: a call is noticeable in the cost of a job
            raise _too_large("result", len(data), self._max_size)
        return self._send_work(PacketType.WORK_COMPLETE, job, data, last=True)

    def send_exception(self, job: Assignment, data: bytes) -> bool:
        """End the job with WORK_EXCEPTION; data longer than ``max_size`` is replaced by a note of its length."""
        if len(data) > self._max_size:
            data = _exception_text(_too_large("exception", len(data), self._max_size))
        # gearmand frees the job at WORK_EXCEPTION (server.cc), so a WORK_FAIL after it is answered with ERROR
        # JOB_NOT_FOUND. Perl's server, recognized by GRAB_JOB, does not end the job: its clients wait for WORK_FAIL.
        final = self.exception_ends_job
        sent = self._send_work(PacketType.WORK_EXCEPTION, job, data, last=final)
        if not final:
            self.send_fail(job)
        return sent

    def send_fail(self, job: Assignment, reason: bytes = b"") -> bool:
        """
        End the job with WORK_FAIL, after a WORK_WARNING with the reason if there is one.

        Args:
            job: The job.
            reason: Truncated to ``max_size``; not sent if the job server is known to refuse WORK_WARNING.

        Returns:
            Whether WORK_FAIL was sent.
        """
        if not self._holds(job):
            return False
        if reason and not self._refuses_warnings:
            self._has_sent_reason = True
            self._send_work(PacketType.WORK_WARNING, job, reason[: self._max_size])
        del self.held[job.handle]
        self.ended += 1
        self._write(encode(PacketType.WORK_FAIL, job.handle))
        return True

    # Receiving.

    def receive_data(self, data: bytes, now: float) -> list[Assignment]:
        """Receive bytes and return the jobs that they assign. Never raises; check ``failure`` first."""
        if self.state is WorkerState.CLOSED:
            return []
        assigned = self._assigned = []
        self._now = now
        try:
            for kind, bodies in self._decoder.feed(data):
                if self.trace is not None:
                    for body in bodies:
                        self.trace("<", kind, body)
                _RECEIVE.get(kind, WorkerProtocol._receive_other)(self, kind, bodies)
            if self._decoder.failure is not None:
                raise self._decoder.failure
        except RemoteProtocolError as error:
            self.failure = error
            self.close()
            return []
        return assigned

    def close(self) -> None:
        """Drop every job: the connection is lost."""
        self.state = WorkerState.CLOSED
        self.grabs = self._probes = 0
        self._probe_replies = dict.fromkeys(self._probe_replies, 0)
        self.held.clear()

    def _receive_job_assign(self, kind: int, bodies: list[bytes]) -> None:
        self._match_grab_replies(PacketType.JOB_ASSIGN, len(bodies))
        kind = PacketType(kind)
        for body in bodies:
            self._assigned.append(self._hold(kind, body))
        self._continue_grabbing()

    def _receive_oversize(self, kind: int, bodies: list[bytes]) -> None:
        self._match_grab_replies(PacketType.JOB_ASSIGN, len(bodies))
        for body in bodies:
            job = self._hold(PacketType(OVERSIZE - kind), body)
            error = _too_large("workload", int(job.workload), self._max_size)
            self.send_exception(job, _exception_text(error))
            if self._on_oversize is not None:
                self._on_oversize(job._replace(workload=b""), error)
        self._continue_grabbing()

    def _hold(self, kind: PacketType, body: bytes) -> Assignment:
        arguments = split(kind, body)
        if len(body) > MAX_NAME:
            check_limits(kind, arguments)
        if kind is PacketType.JOB_ASSIGN:
            arguments.insert(2, b"")  # JOB_ASSIGN has no unique
        job = Assignment._make(arguments)
        if job.function not in self._abilities:
            raise RemoteProtocolError(f"a job was assigned for '{printable(job.function)}', which was not registered")
        # A handle that is already held: the job server has reclaimed the job (CAN_DO_TIMEOUT) and assigned it again.
        # Packets about the first assignment are dropped from now on, as if another worker had the job.
        self.held[job.handle] = job
        return job

    def _continue_grabbing(self) -> None:
        self._empty = False
        self._wakeup_throttle.on_reply(job=True)
        self._window = min(self._window * 2, _MAX_WINDOW)

    def _receive_no_job(self, kind: int, bodies: list[bytes]) -> None:
        self._match_grab_replies(PacketType.NO_JOB, len(bodies))
        self._empty = True
        self._window = 1
        self._wakeup_throttle.on_reply(job=False)

    def _receive_noop(self, kind: int, bodies: list[bytes]) -> None:
        slept = self.state is WorkerState.SLEEPING
        self._move_by_receiving(PacketType.NOOP)
        if slept:
            self._grab_due = True
            self.grab_after = self._wakeup_throttle.on_wakeup(self._now)

    def _receive_error(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            code, text = arguments = split(PacketType.ERROR, body)
            check_limits(PacketType.ERROR, arguments)
            if self.grabs and not self._grab_known and self._grab is PacketType.GRAB_JOB_UNIQ:
                # Only abilities were sent before the first grab, and no server refuses those, so this answers the grab:
                # Perl's server does not support GRAB_JOB_UNIQ. Once a grab has been answered, an ERROR never answers
                # another one, but a packet about a job, which normally has no answer.
                self._grab = PacketType.GRAB_JOB
                self._match_grab_replies(PacketType.NO_JOB, 1)
                self._grab_known = False
                self._grab_due = True
            else:
                self.errors += 1
                # No reply says which packet it answers; gearmand sends JOB_NOT_FOUND for a job that it has reclaimed.
                # Perl's server does not know WORK_WARNING. Losing the reasons is the only harm of a mistake.
                self._refuses_warnings |= self._has_sent_reason and code != _JOB_NOT_FOUND
                if self._on_error is not None:
                    self._on_error(code, text)

    def _receive_probe_reply(self, kind: int, bodies: list[bytes]) -> None:
        kind = PacketType(kind)
        self._probe_replies[kind] += len(bodies)
        if self._probe_replies[kind] > self._probes:
            request = PacketType.ECHO_REQ if kind is PacketType.ECHO_RES else PacketType.GET_STATUS
            raise RemoteProtocolError(f"unexpected {kind.name}: no {request.name} is pending")
        self.answers += len(bodies)

    def _receive_other(self, kind: int, bodies: list[bytes]) -> None:
        if kind in _KNOWN_TYPES:
            raise RemoteProtocolError(f"a job server sent {PacketType(kind).name} to a worker")
        if kind < 0:
            raise RemoteProtocolError("a job server sent a packet with the magic of a request")
        self.unknown += len(bodies)

    def _match_grab_replies(self, kind: PacketType, count: int) -> None:
        self._move_by_receiving(kind)
        if count > self.grabs:
            raise RemoteProtocolError(f"unexpected {kind.name}: no GRAB_JOB is pending")
        self._grab_known = True
        self.grabs -= count
        self.answers += count
        if not self.grabs:
            self.state = WorkerState.AWAKE

    def _move_by_receiving(self, kind: PacketType) -> None:
        state = TRANSITIONS.get((self.state, kind))
        if state is None:
            raise RemoteProtocolError(f"a job server sent {kind.name} to a worker that is {self.state.value}")
        self.state = state

    def _move_by_sending(self, kind: PacketType) -> None:
        state = TRANSITIONS.get((self.state, kind))
        if state is None:
            raise LocalProtocolError(f"a worker that is {self.state.value} cannot send {kind.name}")
        self.state = state

    def _holds(self, job: Assignment) -> bool:
        if self.held.get(job.handle) is job:
            return True
        self.dropped += 1
        return False

    def _send_work(self, kind: PacketType, job: Assignment, data: bytes, *, last: bool = False) -> bool:
        # Hot path. The NUL after the handle is sent even if no data follows.
        handle = job.handle
        size = len(handle) + 1 + len(data)
        if not self._holds(job):
            return False
        if last:
            del self.held[handle]
            self.ended += 1
        head = HEADER.pack(REQUEST, kind, size) + handle + b"\0"
        if self.trace is not None:
            self.trace(">", kind, head[HEADER.size :] + data)
        if len(data) < _SEPARATE_WRITE:
            self._send(head + data)
        else:
            self._send(head)
            self._send(data)
        return True

    def _write(self, packet: bytes) -> None:
        if self.trace is not None:
            _, kind, _ = HEADER.unpack_from(packet)
            self.trace(">", kind, packet[HEADER.size :])
        self._send(packet)


def check_size(what: str, data: bytes, limit: int) -> None:
    """Raise ``JobTooLargeError`` if a result or update is longer than ``limit``."""
    if len(data) > limit:
        raise _too_large(what, len(data), limit)


def _too_large(what: str, size: int, limit: int) -> JobTooLargeError:
    return JobTooLargeError(f"{what} of {size} bytes exceeds max_packet_size {limit}", size=size, limit=limit)


def _exception_text(error: JobTooLargeError) -> bytes:
    return f"{type(error).__name__}: {error}".encode()


_JOB_NOT_FOUND: Final = b"JOB_NOT_FOUND"
_ASSIGNS: Final = frozenset({PacketType.JOB_ASSIGN, PacketType.JOB_ASSIGN_UNIQ})
_LIMITS: Final[Mapping[int, int]] = {PacketType.ERROR: max_body(PacketType.ERROR)}
_GRAB_PACKETS: Final = {kind: encode(kind) for kind in (PacketType.GRAB_JOB, PacketType.GRAB_JOB_UNIQ)}
_PRE_SLEEP: Final = encode(PacketType.PRE_SLEEP)
# The server of Python's gear ignores ECHO_REQ. The handle belongs to no job.
_PROBE: Final = tuple(encode(kind, b"geartrain") for kind in (PacketType.ECHO_REQ, PacketType.GET_STATUS))
_KNOWN_TYPES: Final = frozenset(PacketType)
_RECEIVE: Final[Mapping[int, Callable[[WorkerProtocol, int, list[bytes]], None]]] = {
    PacketType.JOB_ASSIGN: WorkerProtocol._receive_job_assign,
    PacketType.JOB_ASSIGN_UNIQ: WorkerProtocol._receive_job_assign,
    **{OVERSIZE - kind: WorkerProtocol._receive_oversize for kind in _ASSIGNS},
    PacketType.NO_JOB: WorkerProtocol._receive_no_job,
    PacketType.NOOP: WorkerProtocol._receive_noop,
    PacketType.ERROR: WorkerProtocol._receive_error,
    PacketType.ECHO_RES: WorkerProtocol._receive_probe_reply,
    PacketType.STATUS_RES: WorkerProtocol._receive_probe_reply,
}
