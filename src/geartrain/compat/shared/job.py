"""Jobs, and a client's requests for them."""

from __future__ import annotations

from collections import deque
from typing import Any

from geartrain.compat.shared.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_UNKNOWN,
    PRIORITY_NONE,
)

__all__ = ["GearmanJob", "GearmanJobRequest"]


class GearmanJob:
    """
    What a client wants done, or what a worker has to do.

    Attributes:
        connection: The connection to its job server, or ``None`` before it is submitted.
        handle: The job server's name for it, or ``None`` before it is accepted.
        task: The name of the function.
        unique: The key by which job servers merge equal jobs.
        data: At the client, as the caller wrote it; at the worker, decoded by ``data_encoder``.
    """

    def __init__(self, connection: Any, handle: Any, task: Any, unique: Any, data: Any) -> None:
        self.connection = connection
        self.handle = handle
        self.task = task
        self.unique = unique
        self.data = data

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(connection={self.connection!r}, handle={self.handle!r}, task={self.task!r}, "
            f"unique={self.unique!r}, data={self.data!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that can be stored."""
        return {"task": self.task, "job_handle": self.handle, "unique": self.unique, "data": self.data}


class GearmanJobRequest:
    """
    A client's request for one job. Its attributes change while the client polls.

    Attributes:
        gearman_job: The job.
        priority: ``PRIORITY_NONE``, ``PRIORITY_LOW`` or ``PRIORITY_HIGH``.
        background: Whether nobody waits for the result.
        connection_attempts: How often it was sent.
        max_connection_attempts: How often it may be sent, because its connection was lost before it was accepted.
        result: The decoded result of a complete job.
        exception: The decoded body of a WORK_EXCEPTION, or why the job server refused the job.
        warning_updates: The decoded bodies of the WORK_WARNINGs that have arrived.
        data_updates: The decoded bodies of the WORK_DATAs that have arrived.
        status: Empty, or a dict with ``handle``, ``known``, ``running``, ``numerator``, ``denominator`` and
            ``time_received`` (seconds since the epoch).
        state: One of the ``JOB_...`` constants.
        timed_out: Whether the last wait ended before the job was accepted, or complete.
    """

    def __init__(
        self,
        gearman_job: Any,
        initial_priority: str | None = PRIORITY_NONE,
        background: bool = False,
        max_attempts: int = 1,
    ) -> None:
        self.gearman_job = gearman_job
        self.priority: str | None = initial_priority
        self.background: bool = background
        self.connection_attempts: int = 0
        self.max_connection_attempts: int = max_attempts
        self.initialize_request()

    def initialize_request(self) -> None:
        """Forget what has arrived."""
        self.result: Any = None
        self.exception: Any = None
        self.warning_updates: deque[Any] = deque()
        self.data_updates: deque[Any] = deque()
        self.status: dict[str, Any] = {}
        self.state: str = JOB_UNKNOWN
        self.timed_out: bool = False

    def reset(self) -> None:
        """Prepare the request for being submitted again."""
        self.initialize_request()
        self.connection: Any = None
        self.handle: Any = None

    @property
    def job(self) -> Any:
        """The job."""
        return self.gearman_job

    @property
    def complete(self) -> bool:
        """Whether the job has completed or failed; for a background job, whether it was accepted."""
        return self.state in ((JOB_CREATED,) if self.background else (JOB_COMPLETE, JOB_FAILED))

    @property
    def status_updates(self) -> deque[tuple[Any, Any]]:
        """The last numerator and denominator, if any. For old programs."""
        return deque([(self.status.get("numerator", 0), self.status.get("denominator", 0))] if self.status else [])

    @property
    def server_status(self) -> dict[str, Any]:
        """The same as ``status``. For old programs."""
        return self.status

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} task={self.job.task!r}, unique={self.job.unique!r}, priority={self.priority!r}, "
            f"background={self.background!r}, state={self.state!r}, timed_out={self.timed_out!r}>"
        )
