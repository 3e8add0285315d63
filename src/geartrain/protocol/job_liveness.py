"""Detects jobs without packets for a long time, and probes them with GET_STATUS; a job that is unknown is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, ClassVar

from geartrain.protocol.coalescing import CoalescedJobs
from geartrain.protocol.packets import MAX_HANDLE, PacketType

if TYPE_CHECKING:
    from geartrain.protocol.handlers import JobHandler, QueryHandler

__all__ = ["StaleJobs", "StatusProbe", "StatusProbes"]


class StaleJobs:
    """
    Finds the stale jobs of one connection, without storing a time for each job.

    A job is stale if it existed at the call of :meth:`next_interval` before the last one and was not touched since.
    With two calls in a heartbeat interval, that is one to one and a half heartbeat intervals without a packet.
    """

    __slots__ = ("_current", "_previous", "_to_probe", "_touched", "_touched_before")

    def __init__(self) -> None:
        self._previous: list[bytes] = []
        self._current: list[bytes] = []
        self._touched_before: set[bytes] = set()
        self._touched: set[bytes] = set()
        self._to_probe: deque[bytes] = deque()

    def touch(self, handle: bytes) -> None:
        """Record that a packet for the job arrived."""
        if self._current:  # else there was no interval yet, and there may never be one
            self._touched.add(handle)

    def next_interval(self, jobs: Iterable[bytes], limit: int) -> None:
        """
        Start an interval, and select the stale jobs to probe in it, the ones not probed for longest first.

        Args:
            jobs: The handles of all jobs, the ones not probed for longest first.
            limit: The maximum number of jobs to select.
        """
        touched = self._touched_before | self._touched
        stale = (handle for handle in self._previous if handle not in touched)
        # gearmand does not reply to a handle that is too long, which would shift all later replies.
        self._to_probe = deque(
            handle for _, handle in zip(range(limit), stale, strict=False) if len(handle) <= MAX_HANDLE
        )
        self._previous, self._current = self._current, list(jobs)
        self._touched_before, self._touched = self._touched, set()

    def pop(self, jobs: Container[bytes]) -> bytes | None:
        """Remove and return the next job to probe that still exists."""
        while self._to_probe:
            handle = self._to_probe.popleft()
            if handle in jobs:
                self._touched.add(handle)  # not selected again before its reply has had time to arrive
                return handle
        return None


class StatusProbe:
    """A GET_STATUS for a stale job; it has a position among the pending replies."""

    expects: ClassVar[PacketType] = PacketType.STATUS_RES

    def __init__(self, argument: bytes, on_known: Callable[[bytes, bool], None]) -> None:
        self.argument = argument
        self._on_known = on_known

    def on_reply(self, arguments: list[bytes]) -> None:
        """Report whether the job server knows the job."""
        self._on_known(self.argument, arguments[1] != b"0")

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Treat the job as known."""
        self.on_ignored()

    def on_ignored(self) -> None:
        """Treat the job as known: a server that does not support GET_STATUS says nothing about the job."""
        self._on_known(self.argument, True)


class StatusProbes:
    """
    Probes the stale jobs of one connection.

    Args:
        jobs: The jobs that have a handle and have not ended, by handle. A job that is lost is removed.
        send: Sends a request with a direct reply.
    """

    __slots__ = ("_jobs", "_open", "_send", "_stale")

    def __init__(
        self, jobs: dict[bytes, JobHandler | CoalescedJobs], send: Callable[[QueryHandler, PacketType], None]
    ) -> None:
        self._jobs = jobs
        self._send = send
        self._stale = StaleJobs()
        self._open = 0  # probes without a reply

    def touch(self, handle: bytes) -> None:
        """Record that a packet for the job arrived."""
        self._stale.touch(handle)

    def next_interval(self, *, max_probes: int, max_open: int) -> None:
        """Start an interval: probe at most ``max_probes`` stale jobs until the next call, ``max_open`` at a time."""
        self._stale.next_interval(self._jobs, max_probes)
        for _ in range(max_open - self._open):  # a slow job server may not have replied to all earlier probes
            if not self._send_next():
                break

    def reset(self) -> None:
        """Forget which jobs existed and had packets in earlier intervals."""
        self._stale = StaleJobs()

    def _send_next(self) -> bool:
        handle = self._stale.pop(self._jobs)
        if handle is not None:
            self._open += 1
            self._send(StatusProbe(handle, self._on_known), PacketType.GET_STATUS)
        return handle is not None

    def _on_known(self, handle: bytes, known: bool) -> None:
        self._open -= 1
        found = self._jobs.pop(handle, None)
        if found is not None and known:
            self._jobs[handle] = found  # last in order now, so that every job is probed in turn if many are stale
        elif found is not None:
            for handler in found if isinstance(found, CoalescedJobs) else (found,):
                handler.on_unknown(handle)
        self._send_next()
