"""Sends the outcomes of jobs, and counts and logs them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from geartrain.errors import JobFailedError
from geartrain.worker.exceptions import format_exception, log_exception, type_name

if TYPE_CHECKING:
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.job import WorkerJob
    from geartrain.worker.running_job import RunningJob

__all__ = ["Outcomes"]


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
        """Log what a function raised, unless it is a JobFailedError. A log handler may raise."""
        if not issubclass(type(error), JobFailedError):
            log_exception(self._logger, error, "%r raised %s", job, type_name(error))

    def describe(self, error: BaseException) -> bytes | None:
        """Return the text of an exception for the client, or ``None`` for WORK_FAIL. Never raises an exception."""
        if issubclass(type(error), JobFailedError):
            return None
        try:
            return _encode_text(self._format_exception(error))
        except BaseException as failure:  # noqa: BLE001  # the job must end, whatever the user's function does
            self._log_failure(failure)
            return _encode_text(format_exception(error))

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
        counters = running.session.counters
        if running.session.protocol.send_complete(running.assignment, result):
            counters.completed += 1
        else:
            counters.lost += 1

    @staticmethod
    def fail(running: RunningJob, text: bytes | None) -> None:
        """End a job with WORK_EXCEPTION and a text, or with WORK_FAIL."""
        protocol, counters = running.session.protocol, running.session.counters
        if text is None:
            if protocol.send_fail(running.assignment):
                counters.failed += 1
            else:
                counters.lost += 1
        elif protocol.send_exception(running.assignment, text):
            counters.raised += 1
        else:
            counters.lost += 1


def _encode_text(text: bytes | str) -> bytes:
    if isinstance(text, str):
        return str.encode(text, "utf-8", "backslashreplace")
    return bytes(memoryview(text))
