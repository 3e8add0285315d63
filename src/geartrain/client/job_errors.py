"""Builds the errors that jobs fail with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    JobTooLargeError,
    ServerError,
)
from geartrain.printable import printable

if TYPE_CHECKING:
    from geartrain.handle import JobHandle
    from geartrain.protocol.packets import PacketType

__all__ = [
    "client_disconnected",
    "connection_lost",
    "job_exception",
    "job_failed",
    "job_lost",
    "job_timed_out",
    "job_too_large",
    "server_refused",
]


class DescribedJob(Protocol):
    """What an error says about its job."""

    @property
    def function(self) -> str:
        """The function's name."""

    @property
    def handle(self) -> JobHandle | None:
        """The handle of this try, if it has one."""

    @property
    def tries(self) -> int:
        """The number of tries begun."""


def job_failed(job: DescribedJob, reason: str | None) -> JobFailedError:
    """Return the error for a WORK_FAIL, with the reason if the worker has sent one."""
    return JobFailedError(f"the job {_title(job)} failed: {printable(reason or 'WORK_FAIL')}", reason=reason)


def job_exception(job: DescribedJob, data: bytes) -> JobExceptionError:
    """Return the error for a WORK_EXCEPTION."""
    return JobExceptionError(f"the job {_title(job)} raised an exception: {printable(data)}", data=data)


def job_too_large(job: DescribedJob, kind: PacketType, size: int, limit: int) -> JobTooLargeError:
    """Return the error for a result or update over the limit."""
    return JobTooLargeError(
        f"the job {_title(job)} sent a {kind.name} of {size} bytes; max_packet_size is {limit}", size=size, limit=limit
    )


def server_refused(job: DescribedJob, server: str, code: bytes, text: bytes) -> ServerError:
    """Return the error for an ERROR in place of a handle."""
    return ServerError(
        f"{server} refused the job {_title(job)}: {printable(code)} {printable(text)}".rstrip(),
        code=code.decode("utf-8", "backslashreplace"),
        text=text.decode("utf-8", "backslashreplace"),
        server=server,
    )


def job_lost(job: DescribedJob) -> JobLostError:
    """Return the error for a job that its job server no longer knows."""
    name = job.handle
    assert name is not None, "only a job with a handle is looked up"
    return JobLostError(
        f"{name.server} no longer knows the job {_title(job)} and never said how it ended",
        server=name.server,
        handle=name.handle,
    )


def connection_lost(job: DescribedJob, server: str, error: Exception | None) -> ConnectionLostError:
    """Return the error for a lost connection, with the reason if there is one."""
    handle = job.handle
    reason = error or "closed by the server"
    known = "the server had accepted it" if handle else "the server may never have seen it"
    failure = ConnectionLostError(
        f"the connection to {server} was lost ({reason}) with the job {_title(job)}; {known}",
        server=server,
        handle=handle.handle if handle else None,
        outcome="accepted" if handle else "unacknowledged",
    )
    failure.__cause__ = error
    return failure


def job_timed_out(job: DescribedJob, scope: Literal["job", "try"], seconds: float) -> JobTimeoutError:
    """Return the error for the timeout of a job, or of its present try."""
    what = "the job" if scope == "job" else f"try {job.tries} of the job"
    handle = job.handle
    return JobTimeoutError(
        f"{what} {_title(job)} did not end in {seconds:g} s",
        handle=handle.handle if handle else None,
        seconds=seconds,
        scope=scope,
    )


def client_disconnected(job: DescribedJob) -> ClientDisconnectedError:
    """Return the error for a job that ``disconnect_all`` or ``aclose`` ended."""
    return ClientDisconnectedError(f"the client was disconnected with the job {_title(job)} outstanding")


def _title(job: DescribedJob) -> str:
    handle, function = job.handle, printable(job.function)
    return f"{function} ({printable(str(handle))})" if handle else function
