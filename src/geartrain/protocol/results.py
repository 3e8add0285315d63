"""
What becomes of the jobs that a client's connection has, by handle.

A WORK packet never precedes the JOB_CREATED of its handle, so one table of handles is enough to tell whose each is.
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
    Who is told what workers say.

    Args:
        ask: Asks the job server a question.

    Attributes:
        jobs: Those that have a handle and have not ended, by it.
        abandoned: Is told what nobody waits for any more.
        late: Packets that it was told of.
        status_probes: Ask after jobs of which nothing is heard.
    """

    __slots__ = ("abandoned", "jobs", "late", "status_probes")

    def __init__(self, ask: Callable[[QueryHandler, PacketType], None]) -> None:
        self.jobs: dict[bytes, JobHandler | CoalescedJobs] = {}
        self.abandoned: DiscardHandler = DiscardHandler(self._count_late, merges=False)
        self.late: int = 0
        self.status_probes: StatusProbes = StatusProbes(self.jobs, ask)

    def _count_late(self) -> None:
        self.late += 1

    # Whose each job is.

    def give_up(self) -> Iterator[tuple[JobHandler, bytes]]:
        """Take out one job after the other, and yield whose it was and its handle."""
        for handle in list(self.jobs):
            found = self.jobs.get(handle)
            for _ in range(len(found) if isinstance(found, CoalescedJobs) else 1):
                handler = self._end(handle, self.jobs.pop(handle, None))
                if not isinstance(handler, DiscardHandler):
                    yield handler, handle

    def merge(self, handle: bytes, handler: JobHandler) -> None:
        """Attach a submission to a job that another one of this connection has already."""
        found = self.jobs[handle]
        if isinstance(found, CoalescedJobs):
            found.add(handler)
        else:
            self.jobs[handle] = CoalescedJobs(found, handler)

    def add_many(self, handles: list[bytes], handler: BatchHandler) -> None:
        """
        Add an handler's next jobs; one by one they take four times as long.

        Raises:
            RemoteProtocolError: If two of its jobs have one handle, by which it tells them apart; none is added then.
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
                self.merge(handle, handler)

    def _check_distinct(self, handles: list[bytes], handler: BatchHandler) -> None:
        before: set[bytes] = set()
        for handle in handles:
            found = self.jobs.get(handle)
            if handle in before or handler in (found if isinstance(found, CoalescedJobs) else (found,)):
                raise RemoteProtocolError(
                    f"the job server gave the handle '{printable(handle)}' to two jobs without a unique"
                )
            before.add(handle)

    def stand_in_for(self, handler: SubmissionHandler) -> SubmissionHandler:
        """Return who takes the place of one that is to be told nothing more."""
        # Each of those that were merged has a copy of its own to come, and so a stand-in of its own.
        return DiscardHandler(self._count_late, merges=True) if handler.merges else self.abandoned

    def forget(self, handle: bytes, handler: SubmissionHandler) -> None:
        """Tell the handler of a job nothing more. Among merged submissions it keeps its place."""
        if handle in self.jobs:  # else it was given up
            self._replace(handle, handler, self.stand_in_for(handler))

    def _replace(self, handle: bytes, handler: JobHandler, stand_in: SubmissionHandler) -> None:
        found = self.jobs[handle]
        if isinstance(found, CoalescedJobs):
            found.replace(handler, stand_in)
        elif handler.merges:
            self.jobs[handle] = stand_in
        else:
            del self.jobs[handle]

    def forget_all(self, handles: Iterable[bytes], handler: BatchHandler) -> None:
        """Tell the handler of many jobs nothing more of these."""
        for handle in handles:
            found = self.jobs.get(handle)
            if isinstance(found, CoalescedJobs):
                found.replace(handler, self.abandoned)
            elif found is not None:
                del self.jobs[handle]

    def _find(self, handle: bytes) -> JobHandler:
        """Return the submission that a packet which is not terminal is for."""
        found = self.jobs.get(handle)
        if found is None:
            return self._stranger(handle)
        self.status_probes.touch(handle)
        return found.next() if isinstance(found, CoalescedJobs) else found

    def _end(self, handle: bytes, found: JobHandler | CoalescedJobs | None) -> JobHandler:
        """Return the submission that a terminal packet ends, of what was found, and taken out, under its handle."""
        if found is None:
            return self._stranger(handle)
        if not isinstance(found, CoalescedJobs):
            return found
        if len(found) > 1:
            self.jobs[handle] = found
        return found.end_first()

    def _stranger(self, handle: bytes) -> JobHandler:
        """Return the submission that a packet with an unknown handle is for."""
        # A known one came in JOB_CREATED, and is not too long.
        if len(handle) > MAX_NAME:
            raise RemoteProtocolError(f"a handle has at most {MAX_NAME} bytes, the job server sent {len(handle)}")
        return self.abandoned

    # Receiving.

    def _receive_complete(self, kind: int, bodies: list[bytes]) -> None:
        # Half of the hot path, as ClientProtocol._receive_created is the other half.
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
        take = LONG_RESULTS[kind]
        for body in bodies:
            take(self, *split(PacketType(kind), body))

    def _receive_apart(self, kind: int, arguments: list[bytes]) -> None:
        LONG_RESULTS[LONG_PACKET - kind](self, *arguments)

    def _take_complete(self, handle: bytes, data: bytes) -> None:
        self._end(handle, self.jobs.pop(handle, None)).on_complete(handle, data)

    def _take_exception(self, handle: bytes, data: bytes) -> None:
        # gearmand frees the job at WORK_EXCEPTION; Perl's server sends WORK_FAIL after it, which is dropped as late.
        self._end(handle, self.jobs.pop(handle, None)).on_exception(handle, data)

    def _receive_fail(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            # gearmand appends a NUL where it turns a WORK_EXCEPTION into a WORK_FAIL.
            handle = body.partition(b"\0")[0]
            self._end(handle, self.jobs.pop(handle, None)).on_fail(handle)

    def _take_data(self, handle: bytes, data: bytes) -> None:
        self._find(handle).on_data(data)

    def _take_warning(self, handle: bytes, data: bytes) -> None:
        self._find(handle).on_warning(data)

    def _receive_status(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handle, numerator, denominator = split(PacketType(kind), body)
            self._find(handle).on_status(numerator, denominator)

    def _receive_oversize(self, kind: int, bodies: list[bytes]) -> None:
        for body in bodies:
            handle, separator, rest = body.partition(b"\0")
            if not separator:
                raise RemoteProtocolError(f"a handle has at most {MAX_NAME} bytes, the job server sent a longer one")
            self._end_oversize(PacketType(OVERSIZE - kind), handle, int(rest.rpartition(b"\0")[2]))

    def _end_oversize(self, kind: PacketType, handle: bytes, size: int) -> None:
        """End a job that had a packet over the size limit."""
        if kind in _TERMINAL:
            handler = self._end(handle, self.jobs.pop(handle, None))
        else:
            # More updates may arrive; discard them without calling anyone.
            handler = self._find(handle)
            if not isinstance(handler, DiscardHandler):
                self._replace(handle, handler, DiscardHandler(self._count_late, merges=True))
        handler.on_too_large(handle, kind, size)


_Receive: TypeAlias = Callable[[Results, int, list[bytes]], None]

# What a worker says that may be long, by handle and data.
LONG_RESULTS: Final[Mapping[int, Callable[[Results, bytes, bytes], None]]] = {
    PacketType.WORK_COMPLETE: Results._take_complete,
    PacketType.WORK_EXCEPTION: Results._take_exception,
    PacketType.WORK_DATA: Results._take_data,
    PacketType.WORK_WARNING: Results._take_warning,
}

_TERMINAL: Final = frozenset({PacketType.WORK_COMPLETE, PacketType.WORK_EXCEPTION})

# What ends its job if it is over the limit.
OVERSIZE_RESULTS: Final = frozenset({*LONG_RESULTS, PacketType.WORK_STATUS})

# All that a worker says.
RESULTS: Final[Mapping[int, _Receive]] = {
    PacketType.WORK_COMPLETE: Results._receive_complete,
    PacketType.WORK_FAIL: Results._receive_fail,
    PacketType.WORK_EXCEPTION: Results._receive_each,
    PacketType.WORK_DATA: Results._receive_each,
    PacketType.WORK_WARNING: Results._receive_each,
    PacketType.WORK_STATUS: Results._receive_status,
    **{LONG_PACKET - kind: Results._receive_apart for kind in LONG_RESULTS},
    **{OVERSIZE - kind: Results._receive_oversize for kind in OVERSIZE_RESULTS},
}
