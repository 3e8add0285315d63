"""
Routes the results and updates of a client's jobs to their handlers, by handle.

A WORK packet never precedes the JOB_CREATED of its handle, so one table of handles is enough to find the handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from geartrain.errors import RemoteProtocolError
from geartrain.printable import printable
from geartrain.protocol.coalescing import CoalescedJobs, DiscardHandler
from geartrain.protocol.handlers import BatchHandler, JobHandler, QueryHandler, SubmissionHandler
from geartrain.protocol.job_liveness import StatusProbes
from geartrain.protocol.long_packet import LONG_PACKET
from geartrain.protocol.packets import MAX_NAME, OVERSIZE, PacketType, split

__all__ = ["LONG_RESULTS", "OVERSIZE_RESULTS", "RESULTS", "Results"]


class Results:
    """
    The jobs that have a handle and have not ended, and the handlers of their packets.

    Args:
        send_query: Sends a request with a direct reply.

    Attributes:
        jobs: The handler, or handlers, of each job by handle.
        discard_handler: Receives the packets of forgotten and unknown jobs.
        late_packets: The number of packets that it received.
        status_probes: Probes jobs without packets.
    """

    __slots__ = ("discard_handler", "jobs", "late_packets", "status_probes")

    def __init__(self, send_query: Callable[[QueryHandler, PacketType], None]) -> None:
        self.jobs: dict[bytes, JobHandler | CoalescedJobs] = {}
        self.discard_handler: DiscardHandler = DiscardHandler(self._count_late, merges=False)
        self.late_packets: int = 0
        self.status_probes: StatusProbes = StatusProbes(self.jobs, send_query)

    def _count_late(self) -> None:
        self.late_packets += 1

    # Handlers.

    def pop_handlers(self) -> Iterator[tuple[JobHandler, bytes]]:
        """Remove the jobs one by one, and yield the handler and handle of each."""
        for handle in list(self.jobs):
            found = self.jobs.get(handle)
            for _ in range(len(found) if isinstance(found, CoalescedJobs) else 1):
                handler = self._end(handle, self.jobs.pop(handle, None))
                if not isinstance(handler, DiscardHandler):
                    yield handler, handle

    def coalesce(self, handle: bytes, handler: JobHandler) -> None:
        """Add a submission to a job that another submission of this connection already has."""
        found = self.jobs[handle]
        if isinstance(found, CoalescedJobs):
            found.add(handler)
        else:
            self.jobs[handle] = CoalescedJobs(found, handler)

    def add_batch(self, handles: list[bytes], handler: BatchHandler) -> None:
        """
        Add the next jobs of a batch; one by one would take four times as long.

        Raises:
            RemoteProtocolError: If two jobs of the batch have the same handle, so that it could not distinguish them.
                None is added then.
        """
        jobs = self.jobs
        new = jobs.keys().isdisjoint(handles)
        if not new or len(set(handles)) < len(handles):
            self._check_distinct(handles, handler)
        if new:
            jobs.update(dict.fromkeys(handles, handler))
            return
        for handle in handles:
            if jobs.setdefault(handle, handler) is not handler:
                self.coalesce(handle, handler)

    def _check_distinct(self, handles: list[bytes], handler: BatchHandler) -> None:
        before: set[bytes] = set()
        for handle in handles:
            found = self.jobs.get(handle)
            if handle in before or handler in (found if isinstance(found, CoalescedJobs) else (found,)):
                raise RemoteProtocolError(
                    f"the job server assigned the handle '{printable(handle)}' to two jobs without a unique"
                )
            before.add(handle)

    def discard_handler_for(self, handler: SubmissionHandler) -> SubmissionHandler:
        """Return the stand-in for a submission that is forgotten."""
        # Each coalesced submission gets its own copy of each packet, so each needs its own stand-in.
        return DiscardHandler(self._count_late, merges=True) if handler.merges else self.discard_handler

    def forget(self, handle: bytes, handler: SubmissionHandler) -> None:
        """Stop calling the handler of a job. A stand-in keeps its position among coalesced submissions."""
        if handle in self.jobs:  # otherwise pop_handlers() has yielded it
            self._replace(handle, handler, self.discard_handler_for(handler))

    def _replace(self, handle: bytes, handler: JobHandler, stand_in: SubmissionHandler) -> None:
        found = self.jobs[handle]
        if isinstance(found, CoalescedJobs):
            found.replace(handler, stand_in)
        elif handler.merges:
            self.jobs[handle] = stand_in
        else:
            del self.jobs[handle]

    def forget_batch(self, handles: Iterable[bytes], handler: BatchHandler) -> None:
        """Stop calling the handler of a batch for the jobs with these handles."""
        for handle in handles:
            found = self.jobs.get(handle)
            if isinstance(found, CoalescedJobs):
                found.replace(handler, self.discard_handler)
            elif found is not None:
                del self.jobs[handle]

    def _find(self, handle: bytes) -> JobHandler:
        """Return the handler of a non-terminal packet."""
        found = self.jobs.get(handle)
        if found is None:
            return self._discard_unknown(handle)
        self.status_probes.touch(handle)
        return found.next() if isinstance(found, CoalescedJobs) else found

    def _end(self, handle: bytes, found: JobHandler | CoalescedJobs | None) -> JobHandler:
        """Return the handler of a terminal packet, given what was popped for its handle."""
        if found is None:
            return self._discard_unknown(handle)
        if not isinstance(found, CoalescedJobs):
            return found
        if len(found) > 1:
            self.jobs[handle] = found
        return found.end_first()

    def _discard_unknown(self, handle: bytes) -> JobHandler:
        """Return the handler of a packet with an unknown handle."""
        # A known handle was checked in JOB_CREATED.
        if len(handle) > MAX_NAME:
            raise RemoteProtocolError(f"the job server sent a handle of {len(handle)} bytes; the limit is {MAX_NAME}")
        return self.discard_handler

    # Receiving.

    def _receive_complete(self, kind: int, bodies: list[bytes]) -> None:
        # Half of the hot path (ClientProtocol._receive_created is the other).
        pop = self.jobs.pop
        for body in bodies:
            handle, separator, data = body.partition(b"\0")
            if not separator:
                split(PacketType(kind), body)
            handler = pop(handle, None)
            if handler is None or type(handler) is CoalescedJobs:
                handler = self._end(handle, handler)
            handler.on_complete(handle, data)  # type: ignore[union-attr]  # not a CoalescedJobs

    def _receive_each(self, kind: int, bodies: list[bytes]) -> None:
        receive = LONG_RESULTS[kind]
        for body in bodies:
            receive(self, *split(PacketType(kind), body))

    def _receive_long(self, kind: int, arguments: list[bytes]) -> None:
        LONG_RESULTS[LONG_PACKET - kind](self, *arguments)

    def _on_complete(self, handle: bytes, data: bytes) -> None:
        self._end(handle, self.jobs.pop(handle, None)).on_complete(handle, data)

    def _on_exception(self, handle: bytes, data: bytes) -> None:
        # gearmand frees the job at WORK_EXCEPTION. Perl's server then sends a WORK_FAIL, which is discarded as late.
        self._end(handle, self.jobs.pop(handle, None)).on_exception(handle, data)

    def _receive_fail(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            # gearmand appends a NUL if it turns a WORK_EXCEPTION into a WORK_FAIL.
            handle = body.partition(b"\0")[0]
            self._end(handle, self.jobs.pop(handle, None)).on_fail(handle)

    def _on_data(self, handle: bytes, data: bytes) -> None:
        self._find(handle).on_data(data)

    def _on_warning(self, handle: bytes, data: bytes) -> None:
        self._find(handle).on_warning(handle, data)

    def _receive_status(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handle, numerator, denominator = split(PacketType(kind), body)
            self._find(handle).on_status(numerator, denominator)

    def _receive_oversize(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handle, separator, rest = body.partition(b"\0")
            if not separator:
                raise RemoteProtocolError(f"the job server sent a handle of more than {MAX_NAME} bytes")
            self._end_oversize(PacketType(OVERSIZE - kind), handle, int(rest.rpartition(b"\0")[2]))

    def _end_oversize(self, kind: PacketType, handle: bytes, size: int) -> None:
        """End a job after a packet over the size limit."""
        if kind in _TERMINAL:
            handler = self._end(handle, self.jobs.pop(handle, None))
        else:
            # More updates may arrive; discard them without calling anyone.
            handler = self._find(handle)
            if not isinstance(handler, DiscardHandler):
                self._replace(handle, handler, DiscardHandler(self._count_late, merges=True))
        handler.on_too_large(handle, kind, size)


_Receive: TypeAlias = Callable[[Results, int, list[bytes]], None]

# Packets that may be long; each method takes the handle and the data.
LONG_RESULTS: Final[Mapping[int, Callable[[Results, bytes, bytes], None]]] = {
    PacketType.WORK_COMPLETE: Results._on_complete,
    PacketType.WORK_EXCEPTION: Results._on_exception,
    PacketType.WORK_DATA: Results._on_data,
    PacketType.WORK_WARNING: Results._on_warning,
}

_TERMINAL: Final = frozenset({PacketType.WORK_COMPLETE, PacketType.WORK_EXCEPTION})

# Packets that end their job if they are over the size limit.
OVERSIZE_RESULTS: Final = frozenset({*LONG_RESULTS, PacketType.WORK_STATUS})

# The runs of packets that a worker sends about a job.
RESULTS: Final[Mapping[int, _Receive]] = {
    PacketType.WORK_COMPLETE: Results._receive_complete,
    PacketType.WORK_FAIL: Results._receive_fail,
    PacketType.WORK_EXCEPTION: Results._receive_each,
    PacketType.WORK_DATA: Results._receive_each,
    PacketType.WORK_WARNING: Results._receive_each,
    PacketType.WORK_STATUS: Results._receive_status,
    **{LONG_PACKET - kind: Results._receive_long for kind in LONG_RESULTS},
    **{OVERSIZE - kind: Results._receive_oversize for kind in OVERSIZE_RESULTS},
}
