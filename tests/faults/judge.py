"""Checks what the client reported for the jobs of a run against the ledgers of the workers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from geartrain import (
    ConnectionLostError,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NoServersError,
    ServerError,
)
from tests.faults.jobs import PIECES, JobRecord, expected_result
from tests.faults.run import Outcome

# Seconds after its end during which a fault may have an effect: a heartbeat must detect it first, or delayed bytes
# must arrive.
AFTERMATH: Final = 5.0

LAG: Final = 3.0  # seconds that a timer may be late on a busy machine


class Judge:
    """Compares what the client reported with what ran; :meth:`judge` describes each broken promise in a sentence."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._submissions: defaultdict[str, list[JobRecord]] = defaultdict(list)
        for record in outcome.jobs:
            self._submissions[record.name].append(record)

    def judge(self) -> list[str]:
        """Return all promises that were broken."""
        broken = [*self.outcome.errors, *self.outcome.loop_errors]
        for record in self.outcome.jobs:
            broken += (f"{message}: {record}" for message in self._judge_job(record))
        for name, submissions in self._submissions.items():
            report = "; ".join(map(str, submissions))
            broken += (f"{message}: {report}" for message in self._judge_runs(name, submissions))
        unknown = {name for _, name in self.outcome.ran}.difference(self._submissions)
        broken += (f"{name} ran, but was never submitted" for name in sorted(unknown))
        return broken

    def _ran(self, record: JobRecord, what: str = "began") -> int:
        return self.outcome.ran[what, record.name]

    def _judge_job(self, record: JobRecord) -> Iterator[str]:
        job = record.job
        if job is None or not job.done():
            yield "it has not ended"
            return
        if record.ends != 1:
            yield f"it has ended {record.ends} times"
        limit = record.kind.options.get("timeout", math.inf)
        if record.ended_at - record.begun_at > limit + LAG:
            yield f"it did not end within {limit} s"
        if not 1 <= job.tries <= record.retry_count + 1:
            yield f"it had {job.tries} tries"
        if record.with_callbacks:
            yield from _judge_callbacks(record, completed=not job.cancelled() and job.exception() is None)
        if job.cancelled():
            if not record.kind.cancelled:
                yield "it was cancelled, but not by the application"
        elif (error := job.exception()) is None:
            yield from self._judge_completed(record)
        elif record.kind.must_complete:
            yield "it failed although it had enough retries"
        elif (judge_error := _ERRORS.get(type(error))) is None:
            yield "it ended with an unexpected type of error"
        else:
            yield from judge_error(self, record, error)

    def _judge_completed(self, record: JobRecord) -> Iterator[str]:
        assert record.job is not None
        result, pieces = record.job.result(), []
        if record.kind.function == "data":
            # A lost worker may have sent some before; the last pieces are from the worker that completed the job.
            pieces = [b"%d %s" % (number, record.workload) for number in range(PIECES)]
            if record.pieces[-PIECES:] != pieces:
                yield f"it received wrong data: {record.pieces}"
        right = b"" if pieces or record.kind.options.get("background") else expected_result(record.workload)
        if result != right:
            yield f"it received a wrong result: {result[:100]!r}"
        if record.kind.fails:
            yield "it completed, but its function always fails"
        if not record.kind.options.get("background") and not self._ran(record, "completed"):
            yield "it was reported complete, but no worker completed it"

    def _judge_failed(self, record: JobRecord, error: JobFailedError) -> Iterator[str]:
        # gearmand also sends WORK_FAIL for a job that was lost with its worker.
        if not self._ran(record, "failed") and not self._was_hit(record, "workers"):
            yield "it was reported failed, but no worker failed it and none was lost"

    def _judge_exception(self, record: JobRecord, error: JobExceptionError) -> Iterator[str]:
        if not self._ran(record, "raised"):
            yield "it was reported to have raised, but did not raise"
        if error.data != f"ValueError: {record.name}".encode():
            yield f"it received the exception of another job: {error.data!r}"

    def _judge_timeout(self, record: JobRecord, error: JobTimeoutError) -> Iterator[str]:
        if {"job": "timeout", "try": "try_timeout"}[error.scope] not in record.kind.options:
            yield "it had no such time limit"

    def _judge_lost(self, record: JobRecord, error: ConnectionLostError) -> Iterator[str]:
        if (error.outcome == "accepted") != (error.handle is not None):
            yield "its outcome does not agree with its handle"
        if error.outcome == "unacknowledged" and record.retry_count == 0 and "created" in record.callbacks:
            yield "it was reported unacknowledged, but had a handle"
        if not self._was_hit(record, error.server):
            yield f"nothing was wrong with {error.server}"

    def _judge_forgotten(self, record: JobRecord, error: JobLostError) -> Iterator[str]:
        if not self._was_hit(record, error.server) and not self._was_hit(record, "workers"):
            yield f"nothing was wrong with {error.server} and the workers"

    def _judge_unsent(self, record: JobRecord, error: NoServersError) -> Iterator[str]:
        assert record.job is not None
        if record.job.tries != 1:
            yield "it was reported never sent, but an earlier try sent it"
        for server in error.errors:
            if not self._was_hit(record, server):
                yield f"nothing was wrong with {server}"

    def _judge_refused(self, record: JobRecord, error: ServerError) -> Iterator[str]:
        if error.code != "QUEUE_ERROR" or not self._was_hit(record, error.server):
            yield "its queue was not full"

    def _judge_runs(self, name: str, submissions: list[JobRecord]) -> Iterator[str]:
        """Check that it ran at most once for each try that a server may have accepted."""
        at_most = 0
        for record in submissions:
            if record.job is not None and record.job.done():
                error = None if record.job.cancelled() else record.job.exception()
                # These errors say that the last try was not accepted.
                at_most += record.job.tries - isinstance(error, NoServersError | ServerError)
        if self._ran(submissions[0]) > at_most:
            yield f"it ran {self._ran(submissions[0])} times, but at most {at_most} were allowed"

    def _was_hit(self, record: JobRecord, target: str) -> bool:
        """Whether a fault of this target may have affected the job. Faults of servers affect workers, too."""
        return any(
            fault.begun_at <= record.ended_at and fault.ended_at + AFTERMATH >= record.begun_at
            for fault in self.outcome.faults
            if fault.target == target or target == "workers"
        )


def _judge_callbacks(record: JobRecord, *, completed: bool) -> Iterator[str]:
    """Check that the callbacks ran in order: each try in turn, and a single end last."""
    *before, end = record.callbacks or [""]
    if end != ("complete" if completed else "fail"):
        yield "its last callback was not its end"
    retries, created = 0, False
    for what in before:
        if what == "created":
            if created:
                yield "on_created was called twice"
            created = True
        elif what == "exception":
            if not created:
                yield "it raised before it had a handle"
        elif what == f"retry {retries + 1}":
            retries, created = retries + 1, False
        else:
            yield f"the callback {what!r} was out of order"
    if completed and not created:
        yield "it completed before it had a handle"


_ERRORS: Final[Mapping[type[BaseException], Callable[..., Iterator[str]]]] = {
    ConnectionLostError: Judge._judge_lost,
    JobExceptionError: Judge._judge_exception,
    JobFailedError: Judge._judge_failed,
    JobLostError: Judge._judge_forgotten,
    JobTimeoutError: Judge._judge_timeout,
    NoServersError: Judge._judge_unsent,
    ServerError: Judge._judge_refused,
}
"""All errors that a job may end with, each with its check."""
