"""What a job is ended by, as its owner reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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
    from geartrain.client.job import Job
    from geartrain.protocol.packets import PacketType

__all__ = ["disconnected", "failed", "forgotten", "lost", "raised", "refused", "timed_out", "too_large"]


def failed(job: Job) -> JobFailedError:
    """Return the error for a WORK_FAIL."""
    return JobFailedError(f"the job {_title(job)} failed: WORK_FAIL")


def raised(job: Job, data: bytes) -> JobExceptionError:
    """Return the error for a WORK_EXCEPTION."""
    return JobExceptionError(f"the job {_title(job)} raised an exception: {printable(data)}", data=data)


def too_large(job: Job, kind: PacketType, size: int) -> JobTooLargeError:
    """Return the error for a result or update over the limit."""
    limit = job._pool.options.max_packet_size
    return JobTooLargeError(
        f"the job {_title(job)} sent a {kind.name} of {size} bytes; max_packet_size is {limit}", size=size, limit=limit
    )


def refused(job: Job, server: str, code: bytes, text: bytes) -> ServerError:
    """Return the error for an ERROR in place of a handle."""
    return ServerError(
        f"{server} refused the job {_title(job)}: {printable(code)} {printable(text)}".rstrip(),
        code=code.decode("utf-8", "backslashreplace"),
        text=text.decode("utf-8", "backslashreplace"),
        server=server,
    )


def forgotten(job: Job) -> JobLostError:
    """Return the error for a job that its job server knows no more."""
    name = job.handle
    assert name is not None, "only a job with a handle is asked after"
    return JobLostError(
        f"{name.server} no longer knows the job {_title(job)} and never said how it ended",
        server=name.server,
        handle=name.handle,
    )


def lost(job: Job, server: str, error: Exception | None) -> ConnectionLostError:
    """Return the error for a connection that is gone, for this reason if there is one."""
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


def timed_out(job: Job, scope: Literal["job", "try"], seconds: float) -> JobTimeoutError:
    """Return the error for a time that is over: that of the job, or of its present try."""
    what = "the job" if scope == "job" else f"try {job.tries} of the job"
    handle = job.handle
    return JobTimeoutError(
        f"{what} {_title(job)} did not end in {seconds:g} s",
        handle=handle.handle if handle else None,
        seconds=seconds,
        scope=scope,
    )


def disconnected(job: Job) -> ClientDisconnectedError:
    """Return the error for a client that was told to drop everything."""
    return ClientDisconnectedError(f"the client was disconnected with the job {_title(job)} outstanding")


def _title(job: Job) -> str:
    """Name a job."""
    handle, function = job.handle, printable(job._task.function)
    return f"{function} ({printable(str(handle))})" if handle else function
