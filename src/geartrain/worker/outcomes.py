"""Sends the outcomes of jobs, and counts and logs them."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, NamedTuple

from geartrain.errors import JobFailedError
from geartrain.printable import printable
from geartrain.worker.exceptions import format_exception, format_message, log_exception, shorten_message, type_name
from geartrain.worker.running_job import RunningJob, running_job_of

if TYPE_CHECKING:
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.job import WorkerJob
    from geartrain.worker.job_metrics import Outcome

__all__ = ["Failure", "Outcomes"]


class Failure(NamedTuple):
    """
    How a job ends that has not succeeded.

    Attributes:
        is_exception: With WORK_EXCEPTION; otherwise with WORK_FAIL.
        text: The body of the WORK_EXCEPTION, or the reason for the WORK_FAIL, which may be empty.
    """

    is_exception: bool
    text: bytes


class Outcomes:
    """
    Ends jobs with one final packet each.

    Args:
        config: The worker's options.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._logger = config.logger
        self._format_exception = config.format_exception

    def log(self, job: WorkerJob, error: BaseException) -> None:
        """Log what a function raised; of a JobFailedError only the reason. A log handler may raise."""
        fields = _fields_of(job)
        if issubclass(type(error), JobFailedError):
            if reason := shorten_message(format_message(error)):
                self._logger.warning("%r failed: %s", job, printable(reason, None), extra=fields)
            else:
                self._logger.debug("%r failed", job, extra=fields)
        else:
            log_exception(self._logger, error, "%r raised %s", job, type_name(error), extra=fields)

    def describe(self, error: BaseException) -> Failure:
        """Return how a job ends whose function raised this. Never raises an exception."""
        if issubclass(type(error), JobFailedError):
            return Failure(False, _encode_text(shorten_message(format_message(error))))
        try:
            return Failure(True, _encode_text(self._format_exception(error)))
        except BaseException as failure:  # noqa: BLE001  # the job must end, whatever the user's function does
            self._log_failure(failure)
            return Failure(True, _encode_text(format_exception(error)))

    def _log_failure(self, failure: BaseException) -> None:
        try:
            log_exception(self._logger, failure, "format_exception raised")
        except Exception:  # noqa: BLE001  # the job must end although a log handler raises
            traceback.print_exc()  # as logging itself does

    # Called under the lock.

    @staticmethod
    def complete(running: RunningJob, result: bytes) -> None:
        """
        End a job with its result.

        Raises:
            JobTooLargeError: If the result is longer than ``max_packet_size``. Nothing was sent.
        """
        if not running.session.protocol.send_complete(running.assignment, result):
            running.count("lost")
            return
        # `count` for most jobs, inlined: it would take 0.5 us more.
        running.session.counters.completed += 1
        if running.on_end is not None:
            running.on_end("completed")

    @staticmethod
    def fail(running: RunningJob, failure: Failure) -> None:
        """End a job with WORK_EXCEPTION or WORK_FAIL."""
        protocol = running.session.protocol
        outcome: Outcome = "raised" if failure.is_exception else "failed"
        send = protocol.send_exception if failure.is_exception else protocol.send_fail
        running.count(outcome if send(running.assignment, failure.text) else "lost")


def _fields_of(job: WorkerJob) -> dict[str, object]:
    """Return the structured fields of a log record about a job."""
    seconds = time.monotonic() - running_job_of(job).started_at
    return {"function": job.function, "handle": job.handle, "server": job.server, "seconds": seconds}


def _encode_text(text: bytes | str) -> bytes:
    if isinstance(text, str):
        return str.encode(text, "utf-8", "backslashreplace")
    return bytes(memoryview(text))
