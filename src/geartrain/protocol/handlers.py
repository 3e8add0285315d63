"""The interfaces through which the client protocol reports packets."""

from __future__ import annotations

from typing import Protocol

from geartrain.protocol.packets import PacketType

__all__ = ["BatchHandler", "JobHandler", "QueryHandler", "ReplyHandler", "SubmissionHandler"]


class ReplyHandler(Protocol):
    """Handles one direct reply. Direct replies arrive in the order of the requests."""

    @property
    def expects(self) -> int:
        """The packet type of the reply; an ERROR may take its place."""

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Called when the job server replied with ERROR."""


class QueryHandler(ReplyHandler, Protocol):
    """Handles the reply to a query: a status, an echo, an option."""

    @property
    def argument(self) -> bytes:
        """A handle, a unique, bytes to echo or the name of an option. The reply begins with it."""

    def on_reply(self, arguments: list[bytes]) -> None:
        """Called with the arguments of the reply, in the order of the packet table."""

    def on_ignored(self) -> None:
        """Called when the job server has replied to a later request: it does not reply to this kind of query."""


class JobHandler(ReplyHandler, Protocol):
    """Handles what happens to a job, or to several. Each method is called when its packet arrives, in wire order."""

    @property
    def merges(self) -> bool:
        """Whether it has a unique, so that a later submission may be given the same handle."""

    def on_data(self, data: bytes) -> None:
        """Called with the body of WORK_DATA."""

    def on_warning(self, handle: bytes, data: bytes) -> None:
        """Called with the body of WORK_WARNING."""

    def on_status(self, numerator: bytes, denominator: bytes) -> None:
        """Called with the arguments of WORK_STATUS."""

    # One of the following is called last for each job, unless the job is forgotten first.

    def on_complete(self, handle: bytes, data: bytes) -> None:
        """Called with the body of WORK_COMPLETE."""

    def on_fail(self, handle: bytes) -> None:
        """Called when WORK_FAIL arrived."""

    def on_exception(self, handle: bytes, data: bytes) -> None:
        """Called with the body of WORK_EXCEPTION."""

    def on_too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        """Called when a packet of this type was over the size limit, and was skipped."""

    def on_unknown(self, handle: bytes) -> None:
        """Called when the job server no longer knows the job and never said how it ended."""


class SubmissionHandler(JobHandler, Protocol):
    """Handles one job."""

    ticket: int | bytes | None
    """Where the core finds it: a number from sending until JOB_CREATED, then the handle. Set by the core only."""

    def on_created(self, handle: bytes) -> bool:
        """Called when JOB_CREATED arrived; returns whether a result will follow; there is none for a background job."""


class BatchHandler(JobHandler, Protocol):
    """Handles many jobs of one kind without a unique. Later packets identify their job by its handle."""

    ticket: int | bytes | None
    """The number of the last one. Set by the core only."""

    @property
    def expects_results(self) -> bool:
        """Whether results will follow; there are none for background jobs."""

    def on_all_created(self, handles: list[bytes]) -> None:
        """Called with the handles of the next jobs, in the order of submission."""
