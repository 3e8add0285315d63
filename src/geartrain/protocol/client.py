"""
What a client's connection to a job server is owed: direct replies in the order asked, and results by handle.

A job server answers requests in their order (gearmand appends to one queue a connection), an ERROR taking the place of
the reply of what failed. So one line of handlers is enough to tell whose each reply is; results are in `results`.

The core knows no event object: it calls the handler of each submission, and is tested with handlers that only record.
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

__all__ = ["LONGEST_PUT_OFF", "ClientProtocol", "Tracer"]

# Of submissions that are put off nobody knows how long they are, so they are so many and so long at most: 2 MB.
_MOST_PUT_OFF: Final = 500
LONGEST_PUT_OFF: Final = 4096  # bytes of the workload; for longer ones it would make no difference

# There are job servers (that of Python's gear) that ignore ECHO_REQ and OPTION_REQ.
_OPTIONAL: Final = frozenset((PacketType.ECHO_RES, PacketType.OPTION_RES))

Tracer: TypeAlias = Callable[[str, int, bytes], None]
"""Called with ``">"`` or ``"<"``, the packet type and the body of each packet, for the log."""


class ClientProtocol:
    """
    One connection of a client, from connect to close.

    Args:
        send: Takes the bytes to send, in order.
        flush_soon: Called when something is put off; sees that :meth:`write_put_off` is called before bytes leave next.
        max_size: The most bytes that a result or an update may have; a longer one ends its job.

    Attributes:
        failure: What the job server did against the protocol, or ``None``. The connection is to be closed then.
        ignores_requests: The job server has answered a request but not the ECHO_REQ or OPTION_REQ before it.
        unknown: Packets that mean nothing to a client, such as types of a newer server.
        trace: Called for each packet where set.
    """

    __slots__ = (
        "_asked",
        "_decoder",
        "_first",
        "_flush_soon",
        "_line",
        "_replies",
        "_results",
        "_run",
        "_run_head",
        "_run_kind",
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
        # The run of submissions that are put off: their workloads, and what they have in common.
        self._run: list[bytes] = []
        self._run_kind = 0
        self._run_head: bytes | None = None
        self._decoder = Decoder(RESPONSE, max_size, long_types=LONG_RESULTS, limits=_LIMITS, skipped=OVERSIZE_RESULTS)
        # A list, and not a deque, in which a place in the middle takes longer to reach the longer the line is.
        self._line: list[SubmissionHandler | BatchSlot | QueryHandler] = []
        self._first = 0  # the place in the list of the first that has no answer yet
        self._asked = 0  # all that ever stood in the line, which is the ticket of the next
        self._replies = 0  # that came so far
        self._results = Results(self.send_query)
        self.failure: RemoteProtocolError | None = None
        self.ignores_requests: bool = False
        self.unknown: int = 0
        self.trace: Tracer | None = None

    # What is owed.

    @property
    def late(self) -> int:
        """Packets that came for submissions that nobody waits for any more."""
        return self._results.late

    @property
    def owed(self) -> int | None:
        """
        The number of the oldest reply that is owed, or ``None``.

        Answers to ECHO_REQ and OPTION_REQ do not count: there are job servers that send none.
        """
        waiting = range(self._first, len(self._line))
        return self._replies if any(self._line[place].expects not in _OPTIONAL for place in waiting) else None

    @property
    def held(self) -> int:
        """Bytes that are held of a packet of which the rest has not come yet."""
        return self._decoder.held

    @property
    def progress(self) -> int:
        """A number that changes as a packet arrives of which the rest has not come yet."""
        return self._decoder.progress

    @property
    def arrived(self) -> int:
        """Bytes that came of a packet of which the rest has not come yet, whether they are held or were skipped."""
        return self._decoder.arrived

    @property
    def idle(self) -> bool:
        """Whether neither a reply nor a result is to come."""
        return self._first == len(self._line) and not self._results.jobs

    # Sending.

    def send_submit(self, handler: SubmissionHandler, kind: int, head: bytes, workload: bytes) -> None:
        """
        Submit a job. The arguments are not checked: a ``Task`` has done that once.

        Args:
            handler: Is told all that happens to it.
            kind: One of the SUBMIT_JOB packet types.
            head: Its arguments up to the workload, each with its NUL: function, unique and, with SUBMIT_JOB_EPOCH,
                the second from which on it may run.
            workload: Any bytes.
        """
        pieces = encode_submission(kind, head, workload)
        if self._run_head is not None:  # a call for nothing would be a part of what a job with a unique costs
            self.write_put_off()
        handler.ticket = self._asked
        self._asked += 1
        self._line.append(handler)
        for piece in pieces:
            self._send(piece)
        if self.trace is not None:
            self.trace(">", kind, head + workload)

    def submit_soon(self, handler: SubmissionHandler, kind: int, head: bytes, workload: bytes) -> None:
        """
        Submit a job as :meth:`send_submit`, but put it off, to write it with others like it just before bytes leave.

        That takes a third of the time if ``head`` is one and the same object for them. Long workloads are not put off.
        """
        if len(workload) > LONGEST_PUT_OFF:
            self.send_submit(handler, kind, head, workload)
            return
        handler.ticket = self._asked
        self._asked += 1
        self._line.append(handler)
        run = self._run
        if head is self._run_head and kind == self._run_kind and len(run) < _MOST_PUT_OFF:
            run.append(workload)
        else:
            self._begin_run(kind, head, workload)
        if self.trace is not None:
            self.trace(">", kind, head + workload)

    def _begin_run(self, kind: int, head: bytes, workload: bytes) -> None:
        if self._run_head is None:
            self._flush_soon()
        else:
            self.write_put_off()
        self._run_kind, self._run_head = kind, head
        self._run.append(workload)

    def write_put_off(self) -> None:
        """Write the submissions that were put off, so that they leave before what comes next."""
        workloads, head = self._run, self._run_head
        if head is not None:
            self._run, self._run_head = [], None
            for piece in encode_submissions(self._run_kind, head, workloads):
                self._send(piece)

    def send_many(self, handler: BatchHandler, kind: int, head: bytes, workloads: Sequence[bytes]) -> None:
        """Submit as many jobs for one handler, all of whose calls follow each other; else as :meth:`send_submit`."""
        self.write_put_off()
        handler.ticket = self._asked
        self._asked += 1
        self._line.append(BatchSlot(handler, len(workloads)))
        for piece in encode_submissions(kind, head, workloads):
            self._send(piece)
        if self.trace is not None:
            for workload in workloads:
                self.trace(">", kind, head + workload)

    def send_query(self, handler: QueryHandler, kind: PacketType) -> None:
        """Ask what ``handler.asked`` says by ECHO_REQ, OPTION_REQ, GET_STATUS or GET_STATUS_UNIQUE."""
        packet = encode(kind, handler.asked)
        self.write_put_off()
        self._asked += 1
        self._line.append(handler)
        self._send(packet)
        if self.trace is not None:
            self.trace(">", kind, handler.asked)

    def forget(self, handler: SubmissionHandler) -> None:
        """
        Tell the handler of a submission nothing more. It keeps its place in the line and among merged submissions.

        What still arrives for it is dropped and counted.
        """
        ticket = handler.ticket
        if isinstance(ticket, int):
            place = ticket - self._asked + len(self._line)
            if place >= self._first:  # else it was given up
                self._line[place] = self._results.stand_in_for(handler)
        elif ticket is not None:
            self._results.forget(ticket, handler)

    def forget_all(self, handler: BatchHandler, handles: Iterable[bytes]) -> None:
        """Tell the handler of many jobs nothing more: of those with these handles, nor of those that have none yet."""
        self._results.forget_all(handles, handler)
        if not isinstance(handler.ticket, int):
            return
        # Its places are consecutive and end with the ticket. A search would make forgetting n batches cost n².
        place = handler.ticket - self._asked + len(self._line)
        while place >= self._first and isinstance(each := self._line[place], BatchSlot) and each.handler is handler:
            each.handler = self._results.abandoned
            place -= 1

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
        """Forget which jobs were there, and heard of, before: there are none now, and nobody asks for a while."""
        self._results.status_probes.reset()

    # Receiving.

    def receive_data(self, data: bytes) -> None:
        """
        Take bytes and tell the handlers what they say. Never raises on them: see ``failure``.

        Cost: 0.4 us for the two packets of a job. The choice of what to do is made once a run of alike packets.
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
        self._drop_answered()

    def close(self) -> Iterator[tuple[JobHandler | QueryHandler, bytes | None]]:
        """
        Send nothing more, and give up what is owed, one by one.

        Returns:
            An iterator of the handlers, each as often as it is owed something, with the handle of the job if that has
            one; those with a handle come first. Until its turn a handler can be forgotten as before.
        """
        self._run.clear()
        self._run_head = None
        return self._give_up()

    def _give_up(self) -> Iterator[tuple[JobHandler | QueryHandler, bytes | None]]:
        yield from self._results.give_up()
        while self._first < len(self._line):
            first = self._line[self._first]
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

    def _first_in_line(self, kind: int) -> SubmissionHandler | BatchSlot | QueryHandler:
        """
        Return whom this reply must be for; it is taken from the line once it is known to be right.

        Job servers answer in order, so a reply shows that what stands before its handler was ignored.
        """
        line, place = self._line, self._first
        while place < len(line) and line[place].expects != kind and line[place].expects in _OPTIONAL:
            place += 1
        if place < len(line) and line[place].expects == kind:
            self._skip_ignored(place)
        if self._first == len(line):
            raise RemoteProtocolError(f"the job server sent {PacketType(kind).name} that nobody asked for")
        handler = line[self._first]
        if handler.expects != kind:
            raise RemoteProtocolError(
                f"the next reply must be {PacketType(handler.expects).name}, got {PacketType(kind).name}"
            )
        return handler

    def _skip_ignored(self, place: int) -> None:
        """Let go of the ECHO_REQ and OPTION_REQ up to a place in the line, which get no answer any more."""
        while self._first < place:
            handler: QueryHandler = self._line[self._first]  # type: ignore[assignment]  # by what it expects
            self.ignores_requests = True
            self._replies += 1
            self._advance()
            handler.on_ignored()

    def _receive_created(self, kind: int, bodies: list[bytes]) -> None:
        # Half of the hot path, as Results._receive_complete is the other half; so what is rare stands in other methods.
        line, jobs = self._line, self._results.jobs
        self._replies += len(bodies)
        answered = self._results.abandoned
        handles = iter(bodies)
        for handle in handles:
            first = self._first
            if first == len(line) or (handler := line[first]).expects != kind:
                handler = self._first_in_line(kind)
                first = self._first
            if type(handler) is BatchSlot:
                self._create_many(handler, [handle, *islice(handles, handler.count - 1)])
                continue
            line[first] = answered
            self._first = first + 1
            handler.ticket = handle  # type: ignore[union-attr]  # a SubmissionHandler, by what it expects
            if handler.on_created(handle) and jobs.setdefault(handle, handler) is not handler:  # type: ignore[union-attr,arg-type]
                self._results.merge(handle, handler)  # type: ignore[arg-type]

    def _create_many(self, many: BatchSlot, handles: list[bytes]) -> None:
        """Take as many replies at once as there are; one by one they take four times as long."""
        handler = many.handler
        if handler.expects_results:
            self._results.add_many(handles, handler)
        self._shorten(many, len(handles))  # before the handler is told, for that may close everything
        handler.on_all_created(handles)

    def _shorten(self, many: BatchSlot, count: int) -> None:
        """Take so many from the first in the line."""
        many.count -= count
        if not many.count:
            self._advance()

    def _advance(self) -> None:
        """Let go of the first in the line: it has its answer."""
        self._line[self._first] = self._results.abandoned
        self._first += 1

    def _drop_answered(self) -> None:
        """Shorten the list by those who have their answers, if they are most of it: so each is moved once or so."""
        if self._first * 2 > len(self._line):
            del self._line[: self._first]
            self._first = 0

    def _receive_answer(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handler: QueryHandler = self._first_in_line(kind)  # type: ignore[assignment]  # by what it expects
            arguments = split(PacketType(kind), body)
            check_limits(PacketType(kind), arguments)
            if arguments[0] != handler.asked:
                found, asked = printable(arguments[0]), printable(handler.asked)
                raise RemoteProtocolError(f"{PacketType(kind).name} answers '{found}', but '{asked}' was asked")
            self._advance()
            self._replies += 1
            handler.on_reply(arguments)

    def _receive_optional(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            may_be_late = kind == PacketType.OPTION_RES or self.ignores_requests
            if may_be_late and not self._is_due(kind, body):
                self.unknown += 1  # a later reply, or an ERROR, was taken for it
            else:
                self._receive_answer(kind, [body])

    def _is_due(self, kind: int, body: bytes) -> bool:
        """Whether this is the answer to an ECHO_REQ or OPTION_REQ that no other request precedes in the line."""
        for place in range(self._first, len(self._line)):
            handler = self._line[place]
            if handler.expects == kind:
                return handler.asked == body  # type: ignore[union-attr]  # a QueryHandler, by what it expects
            if handler.expects not in _OPTIONAL:
                break
        return False

    def _receive_error(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            code, text = arguments = split(PacketType(kind), body)
            check_limits(PacketType(kind), arguments)
            if self._first == len(self._line):
                raise RemoteProtocolError(
                    f"the job server sent ERROR {printable(code)} '{printable(text)}' that answers nothing"
                )
            if self.ignores_requests:
                self._skip_optional()
            self._replies += 1
            first = self._line[self._first]
            if isinstance(first, BatchSlot):
                self._shorten(first, 1)
                first.handler.on_refused(code, text)
            else:
                self._advance()
                first.on_refused(code, text)

    def _skip_optional(self) -> None:
        """Find out for whom an ERROR is, from a job server that ignores what it does not know."""
        waiting = range(self._first, len(self._line))
        place = next((place for place in waiting if self._line[place].expects not in _OPTIONAL), None)
        if place is not None:
            self._skip_ignored(place)

    def _receive_request(self, kind: int, bodies: list[bytes]) -> None:
        raise RemoteProtocolError("a packet of a job server begins with \\0RES, got \\0REQ")


# Packets without data, which are not limited by max_size but by what their arguments may have.
_LIMITS: Final[Mapping[int, int]] = {
    **{kind: max_body(kind) for kind in (PacketType.JOB_CREATED, PacketType.OPTION_RES, PacketType.ERROR)},
    # A worker may write anything behind the NUL after its handle, as long as gearmand's buffer takes it.
    PacketType.WORK_FAIL: 16 * 1024,
}

# What says something to a client, but for results. What is absent is skipped: it is for workers, or of a newer server.
_RECEIVE: Final[Mapping[int, Callable[[ClientProtocol, int, list[bytes]], None]]] = {
    PacketType.JOB_CREATED: ClientProtocol._receive_created,
    PacketType.STATUS_RES: ClientProtocol._receive_answer,
    PacketType.STATUS_RES_UNIQUE: ClientProtocol._receive_answer,
    PacketType.ECHO_RES: ClientProtocol._receive_optional,
    PacketType.OPTION_RES: ClientProtocol._receive_optional,
    PacketType.ERROR: ClientProtocol._receive_error,
    WRONG_MAGIC: ClientProtocol._receive_request,
}
