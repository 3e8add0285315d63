"""One attempt to have a request's job done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from geartrain import (
    ConnectionLostError,
    GearmanError,
    JobExceptionError,
    JobFailedError,
    JobHandle,
    JobLostError,
    JobStatus,
    LocalProtocolError,
    NoServersError,
    Priority,
    Task,
)
from geartrain.blocking import Job
from geartrain.compat.shared.constants import (
    JOB_COMPLETE,
    JOB_CREATED,
    JOB_FAILED,
    JOB_PENDING,
    JOB_UNKNOWN,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NONE,
)
from geartrain.compat.shared.flavour import Flavour, to_bytes, to_text

__all__ = ["Submission", "SubmissionOwner", "make_status"]

logger: logging.Logger = logging.getLogger("geartrain.compat")

_PRIORITIES: Final = {
    PRIORITY_NONE: Priority.NORMAL,
    PRIORITY_LOW: Priority.LOW,
    PRIORITY_HIGH: Priority.HIGH,
}


class SubmissionOwner(Protocol):
    """Where the submissions of a client are kept."""

    def put_event(self, event: Callable[[], object], *, is_acceptance: bool = False) -> None:
        """Call something in the next thread that polls."""

    def is_current(self, submission: Submission) -> bool:
        """Whether the request has not been submitted again, nor the client shut down."""

    def on_end(self, submission: Submission) -> None:
        """Forget the submission."""

    def on_unaccepted(self, submission: Submission) -> None:
        """Have the request sent again: its connection was lost before the job was accepted."""

    def on_unreachable(self, submission: Submission) -> None:
        """Have the request sent to another job server: nothing was sent to this one."""


class Submission:
    """
    One attempt to have a request's job done, by one job server. Changes the request while a thread polls.

    Args:
        request: The request.
        connection: The job server.
        owner: Where it is kept.
        flavour: Of the client.
        decode: Returns what the program gets for data.
    """

    def __init__(
        self,
        request: Any,
        connection: Any,
        owner: SubmissionOwner,
        flavour: Flavour,
        decode: Callable[[bytes], Any],
    ) -> None:
        self.request = request
        self.connection = connection
        self._owner = owner
        self._flavour = flavour
        self._decode = decode

    def start(self, data: object) -> None:
        """
        Submit the job.

        Args:
            data: As encoded by the program.

        Raises:
            ValueError: If Gearman cannot carry it.
            TypeError: If something has the wrong type.
        """
        job = self.request.job
        if self.request.priority not in _PRIORITIES:
            raise ValueError(f"a priority is None, 'LOW' or 'HIGH', got {self.request.priority!r}")
        task = Task(
            to_text(job.task),
            to_bytes(data) if isinstance(data, str) else data,  # type: ignore[arg-type]  # Task checks it
            unique=to_text(job.unique),
            priority=_PRIORITIES[self.request.priority],
            background=self.request.background,
            on_created=self._report_acceptance,
            on_data=partial(self._report, self._on_data),
            on_warning=partial(self._report, self._on_warning),
            on_status=partial(self._report, self._on_status),
        )
        self.connection.client.add_task(task).add_done_callback(partial(self._report, self._on_done))
        job.connection = self.connection
        self.request.state = JOB_PENDING
        self.connection.connected = True  # or about to be

    # Called in geartrain's thread.

    def _report_acceptance(self, handle: JobHandle) -> None:
        self._owner.put_event(partial(self._handle, self._on_created, handle), is_acceptance=True)

    def _report(self, method: Callable[..., None], *arguments: object) -> None:
        """Have a method called, with the same arguments, in a thread that polls."""
        self._owner.put_event(partial(self._handle, method, *arguments))

    # In a thread that polls.

    def _handle(self, method: Callable[..., None], *arguments: object) -> None:
        if self._owner.is_current(self):
            method(*arguments)

    def _on_created(self, handle: JobHandle) -> None:
        self.request.job.handle = self._flavour.from_text(handle.handle)
        self.request.state = JOB_CREATED

    def _on_data(self, data: bytes) -> None:
        self.request.data_updates.append(self._decode(data))

    def _on_warning(self, data: bytes) -> None:
        self.request.warning_updates.append(self._decode(data))

    def _on_status(self, numerator: float, denominator: float) -> None:
        self.request.status = make_status(self.request, JobStatus(True, True, numerator, denominator))

    def _on_done(self, job: Job) -> None:
        try:
            self._end(job)
        finally:
            self._owner.on_end(self)

    def _end(self, job: Job) -> None:
        error = job.exception()
        if error is None:
            if not self.request.background:
                self._on_complete(job.result())
        elif isinstance(error, NoServersError):
            self._owner.on_unreachable(self)
            self._lose()
        elif isinstance(error, ConnectionLostError):
            if job.handle is None:
                self._owner.on_unaccepted(self)
            self._lose()
        elif isinstance(error, LocalProtocolError):  # this process was forked from the one that has submitted the job
            self.request.state = JOB_UNKNOWN
        elif isinstance(error, JobFailedError):
            self.request.state = JOB_FAILED
        elif isinstance(error, JobExceptionError):
            self.request.state = JOB_FAILED
            self.request.exception = self._decode(error.data)
        elif isinstance(error, GearmanError) and not isinstance(error, JobLostError) and job.handle is None:
            self._on_refused(error)
        else:
            logger.warning("the job server has lost the job of %r: %s", self.request, error)
            self.request.state = JOB_UNKNOWN

    def _on_complete(self, result: bytes) -> None:
        self.request.state = JOB_FAILED  # if it cannot be decoded
        self.request.result = self._decode(result)
        self.request.state = JOB_COMPLETE

    def _on_refused(self, error: GearmanError) -> None:
        logger.error("the job server refused %r: %s", self.request, error)
        self.request.exception = self._flavour.from_text(str(error))
        self.request.state = JOB_FAILED

    def _lose(self) -> None:
        self.connection.connected = False
        self.request.state = JOB_UNKNOWN


def make_status(request: Any, status: JobStatus) -> dict[str, Any]:
    """Return the ``status`` of a request."""
    return {
        "handle": request.job.handle,
        "known": status.known,
        "running": status.running,
        "numerator": int(status.numerator),
        "denominator": int(status.denominator),
        "time_received": time.time(),
    }
