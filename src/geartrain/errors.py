"""
All errors that geartrain raises, grouped by who violated a rule, since that decides what the caller can do.

Facts are attributes; the message is one sentence with the values in it. Invalid arguments raise ``ValueError`` and
``TypeError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = [
    "AliasInUseError",
    "ClientDisconnectedError",
    "ConnectionLostError",
    "GearmanError",
    "JobError",
    "JobExceptionError",
    "JobFailedError",
    "JobLostError",
    "JobTimeoutError",
    "JobTooLargeError",
    "LocalProtocolError",
    "NoServersError",
    "NoWorkersError",
    "RemoteProtocolError",
    "ServerError",
    "ServerTimeoutError",
    "UnknownAliasError",
]

# Facts have defaults so that an error survives pickling, which calls the class with the message alone.


class GearmanError(Exception):
    """The base class of all geartrain errors."""


class LocalProtocolError(GearmanError):
    """The caller violated a rule of Gearman or of this library."""


class RemoteProtocolError(GearmanError):
    """A peer violated the Gearman protocol; the connection is closed."""


class ServerError(GearmanError):
    """
    A job server answered ERROR.

    Attributes:
        code: For example ``"QUEUE_ERROR"``.
        text: The server's message, which may be empty.
        server: Its address.

    Source: gearmand ``PROTOCOL``, "ERROR"; the codes that servers send are in ``docs/wire-notes.md``.
    """

    def __init__(self, message: str, *, code: str = "", text: str = "", server: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.text = text
        self.server = server


class ServerTimeoutError(GearmanError, TimeoutError):
    """
    A job server did not answer a request in time; the connection is closed.

    Attributes:
        server: Its address.
        seconds: The timeout in seconds.
    """

    def __init__(self, message: str, *, server: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.server = server
        self.seconds = seconds


class ConnectionLostError(GearmanError):
    """
    The connection to a job server was lost while it had the job; the work may or may not have been done.

    Attributes:
        server: The address of the job server.
        handle: The job's handle, or ``None`` if JOB_CREATED had not arrived.
        outcome: ``"unacknowledged"`` (sent, no JOB_CREATED: the server may never have seen the job) or
            ``"accepted"`` (the server had the job).
    """

    def __init__(
        self,
        message: str,
        *,
        server: str = "",
        handle: str | None = None,
        outcome: Literal["unacknowledged", "accepted"] = "unacknowledged",
    ) -> None:
        super().__init__(message)
        self.server = server
        self.handle = handle
        self.outcome: Literal["unacknowledged", "accepted"] = outcome


class NoServersError(GearmanError):
    """
    No job server could be reached; nothing was sent.

    Attributes:
        errors: The error of each job server, by address. Empty when none is configured.
    """

    def __init__(self, message: str, *, errors: Mapping[str, Exception] | None = None) -> None:
        super().__init__(message)
        self.errors: Mapping[str, Exception] = dict(errors or {})


class NoWorkersError(GearmanError):
    """
    The task requires a worker, and no job server has one for its function; nothing was sent.

    Attributes:
        function: The function, without the client's prefix.
    """

    def __init__(self, message: str, *, function: str = "") -> None:
        super().__init__(message)
        self.function = function


class ClientDisconnectedError(GearmanError):
    """``disconnect_all`` or ``aclose`` ended the job."""


class JobError(GearmanError):
    """One job failed; other jobs are not affected."""


class JobFailedError(JobError):
    """
    The worker sent WORK_FAIL, or the job server sent it on behalf of the worker.

    In a function of a :class:`~geartrain.Worker`, raising it sends WORK_FAIL. Its message, if there is one, is logged
    and sent before that as WORK_WARNING; it is the ``reason`` of the client's error.

    Attributes:
        reason: In a client, the last WORK_WARNING of the try as text, at most 8 KiB of it. ``None`` if there was none.
    """

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(*([message] if message else []))
        self.reason = reason


class JobExceptionError(JobError):
    """
    The worker sent WORK_EXCEPTION.

    Attributes:
        data: Its body, as the worker wrote it.
    """

    def __init__(self, message: str, *, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class JobTimeoutError(JobError, TimeoutError):
    """
    A job did not end within the timeout of its task.

    Attributes:
        handle: The job's handle, or ``None`` if JOB_CREATED had not arrived.
        seconds: The timeout in seconds.
        scope: ``"job"`` for ``timeout``, ``"try"`` for ``try_timeout``.
    """

    def __init__(
        self, message: str, *, handle: str | None = None, seconds: float = 0.0, scope: Literal["job", "try"] = "job"
    ) -> None:
        super().__init__(message)
        self.handle = handle
        self.seconds = seconds
        self.scope: Literal["job", "try"] = scope


class JobLostError(JobError):
    """
    A job server no longer knows a job that it had accepted, and never said how the job ended.

    Attributes:
        server: The address of the job server.
        handle: The job's handle.
    """

    def __init__(self, message: str, *, server: str = "", handle: str = "") -> None:
        super().__init__(message)
        self.server = server
        self.handle = handle


class JobTooLargeError(JobError):
    """
    A result or update of the job is longer than ``max_packet_size``; it was discarded, and the job is not retried.

    Attributes:
        size: Its length in bytes.
        limit: The limit in bytes.
    """

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class AliasInUseError(GearmanError):
    """``spawn`` was given the name of a client that is still open."""


class UnknownAliasError(GearmanError, LookupError):
    """No open client has this name."""
