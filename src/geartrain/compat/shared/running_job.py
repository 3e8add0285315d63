"""The job that a worker is running."""

from __future__ import annotations

import logging
from typing import Any

from geartrain import JobFailedError, WorkerJob

__all__ = ["RunningJob", "WorkExceptionError", "format_exception", "logger"]


class WorkExceptionError(Exception):
    """Ends a job with WORK_EXCEPTION and these data; it is not an error of the worker."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _NoJobException(logging.Filter):
    """Drops what the program sent on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], WorkExceptionError))


logger: logging.Logger = logging.getLogger("geartrain.compat.worker")
logger.addFilter(_NoJobException())


def format_exception(error: BaseException) -> bytes | str:
    """Return what the client receives."""
    return error.data if isinstance(error, WorkExceptionError) else f"{type(error).__name__}: {error}"


class RunningJob:
    """
    A job from its assignment to the end of the worker's hooks.

    Its outcome is kept until then: a job must not end while a hook may still stop the worker, or the job server would
    assign the next one.

    Args:
        worker_job: geartrain's job.

    Attributes:
        worker_job: As given.
        job: The program's job, once it is created.
    """

    def __init__(self, worker_job: WorkerJob) -> None:
        self.worker_job = worker_job
        self.job: Any = None
        self._outcome: bytes | Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has an outcome."""
        return self._outcome is not None

    def end(self, outcome: bytes | Exception) -> None:
        """Set the outcome, a result or what :meth:`get_result` raises, unless there is one already."""
        if self.has_ended:
            logger.debug("%r has ended already", self.job)
        else:
            self._outcome = outcome

    def get_result(self) -> bytes:
        """
        Return the result.

        Raises:
            JobFailedError: If the job has failed.
            WorkExceptionError: If it ends with WORK_EXCEPTION.
        """
        if self._outcome is None:
            logger.warning(
                "%r ends with WORK_FAIL, because on_job_execute has sent neither a result nor a failure", self.job
            )
            raise JobFailedError
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    # Updates.

    def send_status(self, numerator: float, denominator: float) -> None:
        """Send WORK_STATUS."""
        if not self.has_ended:
            self.worker_job.send_status(numerator, denominator)

    def send_data(self, data: bytes) -> None:
        """Send WORK_DATA."""
        if not self.has_ended:
            self.worker_job.send_data(data)

    def send_warning(self, data: bytes) -> None:
        """Send WORK_WARNING."""
        if not self.has_ended:
            self.worker_job.send_warning(data)
