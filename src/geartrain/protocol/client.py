"""
The client's side of one connection: submissions and queries in the order sent, and their replies and results.

A job server sends direct replies in the order of the requests (gearmand appends them to one queue per connection), with
an ERROR in place of the reply to a request that failed. So one list of pending replies is enough to match each reply to
its handler. Results are matched by handle, in :mod:`geartrain.protocol.results`.

There are no event objects: packets become calls of the handlers, so tests use handlers that record their calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeAlias

from geartrain.errors import RemoteProtocolError
from geartrain.printable import printable
from geartrain.protocol.coalescing import BatchSlot, DiscardHandler
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE, WRONG_MAGIC, Decoder
from geartrain.protocol.handlers import BatchHandler, JobHandler, QueryHandler, SubmissionHandler
from geartrain.protocol.job_liveness import StatusProbe
from geartrain.protocol.long_packet import LONG_PACKET
from geartrain.protocol.packets import (
    OVERSIZE,
    RESPONSE,
    PacketType,
    check_limits,
    encode,
    encode_submission,
    encode_submissions,
    max_body,
    split,
)
from geartrain.protocol.results import LONG_RESULTS, OVERSIZE_RESULTS, RESULTS, Results

__all__ = ["MAX_DEFERRED_WORKLOAD", "ClientProtocol", "Tracer"]

# Deferred submissions are not counted in bytes, so their number and the size of each are limited: 2 MB at most.
_MAX_DEFERRED: Final = 500
MAX_DEFERRED_WORKLOAD: Final = 4096  # bytes; for a longer workload, deferring saves nothing

# Some job servers (Python's gear) ignore ECHO_REQ and OPTION_REQ.
_OPTIONAL: Final = frozenset((PacketType.ECHO_RES, PacketType.OPTION_RES))

Tracer: TypeAlias = Callable[[str, int, bytes], None]
"""Called with ``">"`` or ``"<"``, the packet type and the body of each packet."""


class ClientProtocol:
    """
    The state of one client connection, from connect to close.

    Args:
        send: Called with the bytes to send, in order.
        flush_soon: Called when a submission is deferred; must arrange a call of :meth:`flush_deferred` before any other
            bytes are sent.
        max_size: The maximum size of a result or an update. A larger one ends its job.

    Attributes:
        failure: How the job server violated the protocol, or ``None``. The connection must be closed after a failure.
        ignores_requests: The job server has replied to a request but not to the ECHO_REQ or OPTION_REQ before it.
        unknown: The number of packets that a client ignores, such as those of types unknown here.
        trace: Called for each packet, if set.
    """

    __slots__ = (
        "_decoder",
        "_deferred",
        "_deferred_kind",
        "_deferred_prefix",
        "_first_pending",
        "_flush_soon",
        "_next_ticket",
        "_pending_replies",
        "_replies_received",
        "_results",
        "_send",
        "failure",
        "ignores_requests",
        "trace",
        "unknown",
    )

    def __init__(
        self,
        send: Callable[[bytes], None],
        flush_soon: Callable[[], None],
        *,
        max_size: int = DEFAULT_MAX_SIZE,
    ) -> None:
        self._send = send
        self._flush_soon = flush_soon
        # The workloads of the deferred submissions, and the packet type and prefix that they share.
        self._deferred: list[bytes] = []
        self._deferred_kind = 0
        self._deferred_prefix: bytes | None = None
        self._decoder = Decoder(RESPONSE, max_size, long_types=LONG_RESULTS, limits=_LIMITS, skipped=OVERSIZE_RESULTS)
        # A list, because access to the middle of a deque takes time in proportion to its length.
        self._pending_replies: list[SubmissionHandler | BatchSlot | QueryHandler] = []
        self._first_pending = 0  # the index of the first handler without a reply
        self._next_ticket = 0  # the number of handlers appended so far
        self._replies_received = 0
        self._results = Results(self.send_query)
        self.failure: RemoteProtocolError | None = None
        self.ignores_requests: bool = False
        self.unknown: int = 0
        self.trace: Tracer | None = None

    # State.

    @property
    def late_packets(self) -> int:
        """The number of packets that arrived for forgotten submissions."""
        return self._results.late_packets

    @property
    def oldest_pending(self) -> int | None:
        """
        The number of the oldest pending reply, or ``None``.

        Replies to ECHO_REQ and OPTION_REQ do not count, since some job servers send none.
        """
        pending = range(self._first_pending, len(self._pending_replies))
        if any(self._pending_replies[index].expects not in _OPTIONAL for index in pending):
            return self._replies_received
        return None

    @property
    def held(self) -> int:
        """The number of buffered bytes of an incomplete packet."""
        return self._decoder.held

    @property
    def progress(self) -> int:
        """A number that changes as an incomplete packet arrives."""
        return self._decoder.progress

    @property
    def arrived(self) -> int:
        """The number of bytes of an incomplete packet that have arrived, whether buffered or skipped."""
        return self._decoder.arrived

    @property
    def is_idle(self) -> bool:
        """Whether neither a reply nor a result is pending."""
        return self._first_pending == len(self._pending_replies) and not self._results.jobs

    # Sending.

    def send_submission(self, handler: SubmissionHandler, kind: int, prefix: bytes, workload: bytes) -> None:
        """
        Submit a job. The arguments are not checked, since a ``Task`` is checked once when it is created.

        Args:
            handler: Called for every packet about the job.
            kind: One of the SUBMIT_JOB packet types.
            prefix: The arguments before the workload, each with its NUL: function, unique and, for SUBMIT_JOB_EPOCH,
                the earliest time to run the job, in seconds since the epoch.
            workload: Any bytes.
        """
        pieces = encode_submission(kind, prefix, workload)
        if (
            self._deferred_prefix is not None
        ):  # an unnecessary call would add measurably to the cost of a job with a unique
            self.flush_deferred()
        handler.ticket = self._next_ticket
        self._next_ticket += 1
        self._pending_replies.append(handler)
        for piece in pieces:
            self._send(piece)
        if self.trace is not None:
            self.trace(">", kind, prefix + workload)

    def submit_deferred(self, handler: SubmissionHandler, kind: int, prefix: bytes, workload: bytes) -> None:
        """
        Submit a job as :meth:`send_submission` does, but encode it together with others, just before bytes are sent.

        This costs a third if ``prefix`` is the same object for all of them. Long workloads are not deferred.
        """
        if len(workload) > MAX_DEFERRED_WORKLOAD:
            self.send_submission(handler, kind, prefix, workload)
            return
        handler.ticket = self._next_ticket
        self._next_ticket += 1
        self._pending_replies.append(handler)
        deferred = self._deferred
        if prefix is self._deferred_prefix and kind == self._deferred_kind and len(deferred) < _MAX_DEFERRED:
            deferred.append(workload)
        else:
            self._start_deferred_run(kind, prefix, workload)
        if self.trace is not None:
            self.trace(">", kind, prefix + workload)

    def _start_deferred_run(self, kind: int, prefix: bytes, workload: bytes) -> None:
        if self._deferred_prefix is None:
            self._flush_soon()
        else:
            self.flush_deferred()
        self._deferred_kind, self._deferred_prefix = kind, prefix
        self._deferred.append(workload)

    def flush_deferred(self) -> None:
        """Send the deferred submissions."""
        workloads, prefix = self._deferred, self._deferred_prefix
        if prefix is not None:
            self._deferred, self._deferred_prefix = [], None
            for piece in encode_submissions(self._deferred_kind, prefix, workloads):
                self._send(piece)

    def send_batch(self, handler: BatchHandler, kind: int, prefix: bytes, workloads: Sequence[bytes]) -> None:
        """Submit several jobs with one handler, one packet after the other; otherwise like :meth:`send_submission`."""
        self.flush_deferred()
        handler.ticket = self._next_ticket
        self._next_ticket += 1
        self._pending_replies.append(BatchSlot(handler, len(workloads)))
        for piece in encode_submissions(kind, prefix, workloads):
            self._send(piece)
        if self.trace is not None:
            for workload in workloads:
                self.trace(">", kind, prefix + workload)

    def send_query(self, handler: QueryHandler, kind: PacketType) -> None:
        """Send ECHO_REQ, OPTION_REQ, GET_STATUS or GET_STATUS_UNIQUE with the argument ``handler.argument``."""
        packet = encode(kind, handler.argument)
        self.flush_deferred()
        self._next_ticket += 1
        self._pending_replies.append(handler)
        self._send(packet)
        if self.trace is not None:
            self.trace(">", kind, handler.argument)

    def forget(self, handler: SubmissionHandler) -> None:
        """
        Stop calling the handler of a submission, and count the packets that still arrive for it.

        A stand-in keeps its position among the pending replies and the coalesced submissions.
        """
        ticket = handler.ticket
        if isinstance(ticket, int):
            index = ticket - self._next_ticket + len(self._pending_replies)
            if index >= self._first_pending:  # otherwise close() has yielded it
                self._pending_replies[index] = self._results.discard_handler_for(handler)
        elif ticket is not None:
            self._results.forget(ticket, handler)

    def forget_batch(self, handler: BatchHandler, handles: Iterable[bytes]) -> None:
        """Stop calling the handler of a batch for the jobs with these handles and the jobs without a handle."""
        self._results.forget_batch(handles, handler)
        if not isinstance(handler.ticket, int):
            return
        # Its slots are consecutive and end at the ticket. A search would make forgetting n batches cost n².
        index = handler.ticket - self._next_ticket + len(self._pending_replies)
        while index >= self._first_pending:
            slot = self._pending_replies[index]
            if not isinstance(slot, BatchSlot) or slot.handler is not handler:
                break
            slot.handler = self._results.discard_handler
            index -= 1

    def probe_stale_jobs(self, *, max_probes: int, max_open: int = 100) -> None:
        """
        Send GET_STATUS for jobs without packets since the call before the last one.

        Two calls in an interval probe each job that had no packets for one to one and a half intervals.

        Args:
            max_probes: The maximum number of probes until the next call; jobs not probed for longest come first.
            max_open: The maximum number of probes without a reply.
        """
        self._results.status_probes.next_interval(max_probes=max_probes, max_open=max_open)

    def stop_probing(self) -> None:
        """Start over: no job is stale until two more calls of :meth:`probe_stale_jobs`."""
        self._results.status_probes.reset()

    # Receiving.

    def receive_data(self, data: bytes) -> None:
        """
        Decode bytes and call the handlers. Never raises on what was received; see ``failure``.

        Costs 0.4 us for the two packets of a job: the method to call is looked up once per run of packets of one type.
        """
        if self.failure is not None:
            return
        try:
            for kind, bodies in self._decoder.feed(data):
                if self.trace is not None:
                    self._trace_run(self.trace, kind, bodies)
                if (receive_results := RESULTS.get(kind)) is not None:
                    receive_results(self._results, kind, bodies)
                elif (receive := _RECEIVE.get(kind)) is not None:
                    receive(self, kind, bodies)
                else:
                    self.unknown += len(bodies)
        except RemoteProtocolError as error:
            self.failure = error
        else:
            self.failure = self._decoder.failure
        self._delete_received()

    def close(self) -> Iterator[tuple[JobHandler | QueryHandler, bytes | None]]:
        """
        Discard the deferred submissions, and remove the handlers of all pending replies and results one by one.

        Returns:
            An iterator of the handlers, each as often as something is pending for it, with the handle of the job or
            ``None``. Those with a handle come first. A handler can be forgotten as before until it is its turn.
        """
        self._deferred.clear()
        self._deferred_prefix = None
        return self._pop_handlers()

    def _pop_handlers(self) -> Iterator[tuple[JobHandler | QueryHandler, bytes | None]]:
        yield from self._results.pop_handlers()
        while self._first_pending < len(self._pending_replies):
            first = self._pending_replies[self._first_pending]
            handler = first.handler if isinstance(first, BatchSlot) else first
            if isinstance(first, BatchSlot) and not isinstance(handler, DiscardHandler):
                self._shorten(first, 1)
            else:
                self._advance()
            if not isinstance(handler, DiscardHandler | StatusProbe):
                yield handler, None

    def _trace_run(self, trace: Tracer, kind: int, bodies: list[bytes]) -> None:
        if OVERSIZE < kind <= LONG_PACKET:
            kind, bodies = LONG_PACKET - kind, [b"\0".join(bodies)]
        for body in bodies:
            trace("<", kind, body)

    def _match_reply(self, kind: int) -> SubmissionHandler | BatchSlot | QueryHandler:
        """
        Return the handler that a reply of this type is for; the caller removes it after checking the reply.

        Job servers reply in order, so the requests before it that may be ignored have been ignored.
        """
        pending, index = self._pending_replies, self._first_pending
        while index < len(pending) and pending[index].expects != kind and pending[index].expects in _OPTIONAL:
            index += 1
        if index < len(pending) and pending[index].expects == kind:
            self._skip_ignored(index)
        if self._first_pending == len(pending):
            raise RemoteProtocolError(f"the job server sent an unexpected {PacketType(kind).name}")
        handler = pending[self._first_pending]
        if handler.expects != kind:
            raise RemoteProtocolError(f"expected {PacketType(handler.expects).name}, got {PacketType(kind).name}")
        return handler

    def _skip_ignored(self, end: int) -> None:
        """Remove the handlers of ignored ECHO_REQ and OPTION_REQ before this index, and notify them."""
        while self._first_pending < end:
            handler: QueryHandler = self._pending_replies[self._first_pending]  # type: ignore[assignment]  # by what it expects
            self.ignores_requests = True
            self._replies_received += 1
            self._advance()
            handler.on_ignored()

    def _receive_created(self, kind: int, bodies: list[bytes]) -> None:
        # Half of the hot path (Results._receive_complete is the other), so rare cases are in other methods.
        pending, jobs = self._pending_replies, self._results.jobs
        self._replies_received += len(bodies)
        received = self._results.discard_handler
        handles = iter(bodies)
        for handle in handles:
            first = self._first_pending
            if first == len(pending) or (handler := pending[first]).expects != kind:
                handler = self._match_reply(kind)
                first = self._first_pending
            if type(handler) is BatchSlot:
                self._receive_batch_created(handler, [handle, *islice(handles, handler.count - 1)])
                continue
            pending[first] = received
            self._first_pending = first + 1
            handler.ticket = handle  # type: ignore[union-attr]  # a SubmissionHandler, by what it expects
            if handler.on_created(handle) and jobs.setdefault(handle, handler) is not handler:  # type: ignore[union-attr,arg-type]
                self._results.coalesce(handle, handler)  # type: ignore[arg-type]

    def _receive_batch_created(self, slot: BatchSlot, handles: list[bytes]) -> None:
        """Handle as many replies at once as there are; one by one would take four times as long."""
        handler = slot.handler
        if handler.expects_results:
            self._results.add_batch(handles, handler)
        self._shorten(slot, len(handles))  # before the handler is called, which may close the connection
        handler.on_all_created(handles)

    def _shorten(self, slot: BatchSlot, count: int) -> None:
        """Remove this many replies from the first slot."""
        slot.count -= count
        if not slot.count:
            self._advance()

    def _advance(self) -> None:
        """Remove the first pending reply."""
        self._pending_replies[self._first_pending] = self._results.discard_handler
        self._first_pending += 1

    def _delete_received(self) -> None:
        """Delete the received replies if they are most of the list, so that each item is moved about once."""
        if self._first_pending * 2 > len(self._pending_replies):
            del self._pending_replies[: self._first_pending]
            self._first_pending = 0

    def _receive_reply(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handler: QueryHandler = self._match_reply(kind)  # type: ignore[assignment]
            arguments = split(PacketType(kind), body)
            check_limits(PacketType(kind), arguments)
            if arguments[0] != handler.argument:
                expected, got = printable(handler.argument), printable(arguments[0])
                raise RemoteProtocolError(f"expected {PacketType(kind).name} for '{expected}', got it for '{got}'")
            self._advance()
            self._replies_received += 1
            handler.on_reply(arguments)

    def _receive_optional_reply(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            may_be_late = kind == PacketType.OPTION_RES or self.ignores_requests
            if may_be_late and not self._is_next_reply(kind, body):
                self.unknown += 1  # a later reply, or an ERROR, was taken for it
            else:
                self._receive_reply(kind, [body])

    def _is_next_reply(self, kind: int, body: bytes) -> bool:
        """Whether this replies to an ECHO_REQ or OPTION_REQ with no other kind of request before it."""
        for index in range(self._first_pending, len(self._pending_replies)):
            handler = self._pending_replies[index]
            if handler.expects == kind:
                return handler.argument == body  # type: ignore[union-attr]  # a QueryHandler, by what it expects
            if handler.expects not in _OPTIONAL:
                break
        return False

    def _receive_error(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            code, text = arguments = split(PacketType(kind), body)
            check_limits(PacketType(kind), arguments)
            if self._first_pending == len(self._pending_replies):
                raise RemoteProtocolError(
                    f"the job server sent an unexpected ERROR {printable(code)} '{printable(text)}'"
                )
            if self.ignores_requests:
                self._skip_optional()
            self._replies_received += 1
            first = self._pending_replies[self._first_pending]
            if isinstance(first, BatchSlot):
                self._shorten(first, 1)
                first.handler.on_refused(code, text)
            else:
                self._advance()
                first.on_refused(code, text)

    def _skip_optional(self) -> None:
        """Find the request that an ERROR replies to, given a job server that ignores unknown requests."""
        pending = range(self._first_pending, len(self._pending_replies))
        index = next((index for index in pending if self._pending_replies[index].expects not in _OPTIONAL), None)
        if index is not None:
            self._skip_ignored(index)

    def _receive_wrong_magic(self, kind: int, bodies: list[bytes]) -> None:
        raise RemoteProtocolError("a packet from a job server must begin with \\0RES, got \\0REQ")


# Limits of packets without data; max_size applies to the others.
_LIMITS: Final[Mapping[int, int]] = {
    **{kind: max_body(kind) for kind in (PacketType.JOB_CREATED, PacketType.OPTION_RES, PacketType.ERROR)},
    # A worker may append anything after the NUL that follows the handle, up to the size of gearmand's buffer.
    PacketType.WORK_FAIL: 16 * 1024,
}

# Packets for clients, except results. Packets of other types are for workers or from a newer job server, and ignored.
_RECEIVE: Final[Mapping[int, Callable[[ClientProtocol, int, list[bytes]], None]]] = {
    PacketType.JOB_CREATED: ClientProtocol._receive_created,
    PacketType.STATUS_RES: ClientProtocol._receive_reply,
    PacketType.STATUS_RES_UNIQUE: ClientProtocol._receive_reply,
    PacketType.ECHO_RES: ClientProtocol._receive_optional_reply,
    PacketType.OPTION_RES: ClientProtocol._receive_optional_reply,
    PacketType.ERROR: ClientProtocol._receive_error,
    WRONG_MAGIC: ClientProtocol._receive_wrong_magic,
}
