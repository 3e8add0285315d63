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
from tests.faults.jobs import PIECES, Asked, answer_to
from tests.faults.run import Outcome

# Seconds after its end during which a fault may have an effect: a heartbeat must detect it first, or delayed bytes
# must arrive.
AFTERMATH: Final = 5.0

LAG: Final = 3.0  # seconds that a timer may be late on a busy machine


class Judge:
    """Compares what the client reported with what ran; :meth:`judge` describes each broken promise in a sentence."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._submissions: defaultdict[str, list[Asked]] = defaultdict(list)
        for asked in outcome.jobs:
            self._submissions[asked.name].append(asked)

    def judge(self) -> list[str]:
        """Return all promises that were broken."""
        broken = [*self.outcome.errors, *self.outcome.loop_errors]
        for asked in self.outcome.jobs:
            broken += (f"{message}: {asked}" for message in self._judge_job(asked))
        for name, submissions in self._submissions.items():
            report = "; ".join(map(str, submissions))
            broken += (f"{message}: {report}" for message in self._judge_runs(name, submissions))
        unknown = {name for _, name in self.outcome.ran}.difference(self._submissions)
        broken += (f"{name} ran, but was never submitted" for name in sorted(unknown))
        return broken

    def _ran(self, asked: Asked, what: str = "began") -> int:
        return self.outcome.ran[what, asked.name]

    def _judge_job(self, asked: Asked) -> Iterator[str]:
        job = asked.job
        if job is None or not job.done():
            yield "it has not ended"
            return
        if asked.ends != 1:
            yield f"it has ended {asked.ends} times"
        limit = asked.kind.options.get("timeout", math.inf)
        if asked.ended_at - asked.begun_at > limit + LAG:
            yield f"it did not end within {limit} s"
        if not 1 <= job.tries <= asked.retry_count + 1:
            yield f"it had {job.tries} tries"
        if asked.with_callbacks:
            yield from _judge_callbacks(asked, completed=not job.cancelled() and job.exception() is None)
        if job.cancelled():
            if not asked.kind.cancelled:
                yield "it was cancelled, but not by the application"
        elif (error := job.exception()) is None:
            yield from self._judge_completed(asked)
        elif asked.kind.sure:
            yield "it failed although it had enough retries"
        elif (judge_error := _ERRORS.get(type(error))) is None:
            yield "it ended with an unexpected type of error"
        else:
            yield from judge_error(self, asked, error)

    def _judge_completed(self, asked: Asked) -> Iterator[str]:
        assert asked.job is not None
        result, pieces = asked.job.result(), []
        if asked.kind.function == "data":
            # A lost worker may have sent some before; the last pieces are from the worker that completed the job.
            pieces = [b"%d %s" % (number, asked.workload) for number in range(PIECES)]
            if asked.pieces[-PIECES:] != pieces:
                yield f"it received wrong data: {asked.pieces}"
        right = b"" if pieces or asked.kind.options.get("background") else answer_to(asked.workload)
        if result != right:
            yield f"it received a wrong result: {result[:100]!r}"
        if asked.kind.fails:
            yield "it completed, but its function always fails"
        if not asked.kind.options.get("background") and not self._ran(asked, "completed"):
            yield "it was reported complete, but no worker completed it"

    def _judge_failed(self, asked: Asked, error: JobFailedError) -> Iterator[str]:
        # gearmand also sends WORK_FAIL for a job that was lost with its worker.
        if not self._ran(asked, "failed") and not self._was_hit(asked, "workers"):
            yield "it was reported failed, but no worker failed it and none was lost"

    def _judge_exception(self, asked: Asked, error: JobExceptionError) -> Iterator[str]:
        if not self._ran(asked, "raised"):
            yield "it was reported to have raised, but did not raise"
        if error.data != f"ValueError: {asked.name}".encode():
            yield f"it received the exception of another job: {error.data!r}"

    def _judge_timeout(self, asked: Asked, error: JobTimeoutError) -> Iterator[str]:
        if {"job": "timeout", "try": "try_timeout"}[error.scope] not in asked.kind.options:
            yield "it had no such time limit"

    def _judge_lost(self, asked: Asked, error: ConnectionLostError) -> Iterator[str]:
        if (error.outcome == "accepted") != (error.handle is not None):
            yield "its outcome does not agree with its handle"
        if error.outcome == "unacknowledged" and asked.retry_count == 0 and "created" in asked.callbacks:
            yield "it was reported unacknowledged, but had a handle"
        if not self._was_hit(asked, error.server):
            yield f"nothing was wrong with {error.server}"

    def _judge_forgotten(self, asked: Asked, error: JobLostError) -> Iterator[str]:
        if not self._was_hit(asked, error.server) and not self._was_hit(asked, "workers"):
            yield f"nothing was wrong with {error.server} and the workers"

    def _judge_unsent(self, asked: Asked, error: NoServersError) -> Iterator[str]:
        assert asked.job is not None
        if asked.job.tries != 1:
            yield "it was reported never sent, but an earlier try sent it"
        for server in error.errors:
            if not self._was_hit(asked, server):
                yield f"nothing was wrong with {server}"

    def _judge_refused(self, asked: Asked, error: ServerError) -> Iterator[str]:
        if error.code != "QUEUE_ERROR" or not self._was_hit(asked, error.server):
            yield "its queue was not full"

    def _judge_runs(self, name: str, submissions: list[Asked]) -> Iterator[str]:
        """Check that it ran at most once for each try that a server may have accepted."""
        at_most = 0
        for asked in submissions:
            if asked.job is not None and asked.job.done():
                error = None if asked.job.cancelled() else asked.job.exception()
                # These errors say that the last try was not accepted.
                at_most += asked.job.tries - isinstance(error, NoServersError | ServerError)
        if self._ran(submissions[0]) > at_most:
            yield f"it ran {self._ran(submissions[0])} times, but at most {at_most} were allowed"

    def _was_hit(self, asked: Asked, target: str) -> bool:
        """Whether a fault of this target may have affected the job. Faults of servers affect workers, too."""
        return any(
            fault.begun_at <= asked.ended_at and fault.ended_at + AFTERMATH >= asked.begun_at
            for fault in self.outcome.faults
            if fault.target == target or target == "workers"
        )


def _judge_callbacks(asked: Asked, *, completed: bool) -> Iterator[str]:
    """Check that the callbacks ran in order: each try in turn, and a single end last."""
    *before, end = asked.callbacks or [""]
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
