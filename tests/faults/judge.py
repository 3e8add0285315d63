"""Whether what the client said of the jobs of a run was true: the ledgers of the workers know."""

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

# Seconds that a fault may go on having an effect: until a heartbeat has found out what it did, or what it held up has
# gone through.
AFTERMATH: Final = 5.0

LAG: Final = 3.0  # seconds that a timer may be late in a process that does all this, on a machine that does more


class Judge:
    """Compares what the client said with what ran; :meth:`judge` gives a sentence for each promise that was broken."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._submissions: defaultdict[str, list[Asked]] = defaultdict(list)
        for asked in outcome.jobs:
            self._submissions[asked.name].append(asked)

    def judge(self) -> list[str]:
        """Return all promises that were broken."""
        broken = [*self.outcome.books, *self.outcome.loop_errors]
        for asked in self.outcome.jobs:
            broken += (f"{words}: {asked}" for words in self._judge_job(asked))
        for name, submissions in self._submissions.items():
            broken += (f"{words}: {'; '.join(map(str, submissions))}" for words in self._judge_runs(name, submissions))
        unasked = {name for _, name in self.outcome.ran}.difference(self._submissions)
        broken += (f"{name} ran, and was never submitted" for name in sorted(unasked))
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
            yield f"it was to end in {limit} s"
        if not 1 <= job.tries <= asked.retry_count + 1:
            yield f"it had {job.tries} tries"
        if asked.with_callbacks:
            yield from _judge_told(asked, completed=not job.cancelled() and job.exception() is None)
        if job.cancelled():
            if not asked.kind.cancelled:
                yield "nobody has cancelled it"
        elif (error := job.exception()) is None:
            yield from self._judge_completed(asked)
        elif asked.kind.sure:
            yield "it had retries enough"
        elif (judge_error := _ERRORS.get(type(error))) is None:
            yield "it ended with an error of an unknown sort"
        else:
            yield from judge_error(self, asked, error)

    def _judge_completed(self, asked: Asked) -> Iterator[str]:
        assert asked.job is not None
        result, pieces = asked.job.result(), []
        if asked.kind.function == "data":
            # A try may have had some from a worker that was lost then; those of the one that completed it are the last.
            pieces = [b"%d %s" % (number, asked.workload) for number in range(PIECES)]
            if asked.pieces[-PIECES:] != pieces:
                yield f"it has had wrong data: {asked.pieces}"
        right = b"" if pieces or asked.kind.options.get("background") else answer_to(asked.workload)
        if result != right:
            yield f"it has got a wrong answer: {result[:100]!r}"
        if asked.kind.fails:
            yield "it is complete, and its function only fails"
        if not asked.kind.options.get("background") and not self._ran(asked, "completed"):
            yield "it is said to be complete, and no worker has completed it"

    def _judge_failed(self, asked: Asked, error: JobFailedError) -> Iterator[str]:
        # gearmand says WORK_FAIL of a job that was lost with its worker, too.
        if not self._ran(asked, "failed") and not self._was_hit(asked, "workers"):
            yield "it is said to have failed, and no worker has failed it, and none was lost"

    def _judge_exception(self, asked: Asked, error: JobExceptionError) -> Iterator[str]:
        if not self._ran(asked, "raised"):
            yield "it is said to have raised, and it has not"
        if error.data != f"ValueError: {asked.name}".encode():
            yield f"it has got the exception of another job: {error.data!r}"

    def _judge_timeout(self, asked: Asked, error: JobTimeoutError) -> Iterator[str]:
        if {"job": "timeout", "try": "try_timeout"}[error.scope] not in asked.kind.options:
            yield "it had no such time limit"

    def _judge_lost(self, asked: Asked, error: ConnectionLostError) -> Iterator[str]:
        if (error.outcome == "accepted") != (error.handle is not None):
            yield "its outcome does not agree with its handle"
        if error.outcome == "unacknowledged" and asked.retry_count == 0 and "created" in asked.told:
            yield "it is said never to have been acknowledged, and it was"
        if not self._was_hit(asked, error.server):
            yield f"nothing was wrong with {error.server}"

    def _judge_forgotten(self, asked: Asked, error: JobLostError) -> Iterator[str]:
        if not self._was_hit(asked, error.server) and not self._was_hit(asked, "workers"):
            yield f"nothing was wrong with {error.server} and the workers"

    def _judge_unsent(self, asked: Asked, error: NoServersError) -> Iterator[str]:
        assert asked.job is not None
        if asked.job.tries != 1:
            yield "it is said never to have been sent, and it was, by an earlier try"
        for server in error.errors:
            if not self._was_hit(asked, server):
                yield f"nothing was wrong with {server}"

    def _judge_refused(self, asked: Asked, error: ServerError) -> Iterator[str]:
        if error.code != "QUEUE_ERROR" or not self._was_hit(asked, error.server):
            yield "its queue was not full"

    def _judge_runs(self, name: str, submissions: list[Asked]) -> Iterator[str]:
        """See that it ran no more often than it may have been accepted; each submission may do that once a try."""
        at_most = 0
        for asked in submissions:
            if asked.job is not None and asked.job.done():
                error = None if asked.job.cancelled() else asked.job.exception()
                # Of the last try the client has said that it was not accepted.
                at_most += asked.job.tries - isinstance(error, NoServersError | ServerError)
        if self._ran(submissions[0]) > at_most:
            yield f"it ran {self._ran(submissions[0])} times, and may have done so {at_most} times"

    def _was_hit(self, asked: Asked, target: str) -> bool:
        """Whether a fault of this target, or what it left, may have met the job. Workers feel what befalls servers."""
        return any(
            fault.begun_at <= asked.ended_at and fault.ended_at + AFTERMATH >= asked.begun_at
            for fault in self.outcome.faults
            if fault.target == target or target == "workers"
        )


def _judge_told(asked: Asked, *, completed: bool) -> Iterator[str]:
    """See that the callbacks ran in order: each try in turn, and one end, last."""
    *before, end = asked.told or [""]
    if end != ("complete" if completed else "fail"):
        yield "its end was not told last"
    retries, created = 0, False
    for what in before:
        if what == "created":
            if created:
                yield "it was told twice of its handle"
            created = True
        elif what == "exception":
            if not created:
                yield "it raised before it had a handle"
        elif what == f"retry {retries + 1}":
            retries, created = retries + 1, False
        else:
            yield f"it was told of {what!r} at a wrong time"
    if completed and not created:
        yield "it was complete before it had a handle"


_ERRORS: Final[Mapping[type[BaseException], Callable[..., Iterator[str]]]] = {
    ConnectionLostError: Judge._judge_lost,
    JobExceptionError: Judge._judge_exception,
    JobFailedError: Judge._judge_failed,
    JobLostError: Judge._judge_forgotten,
    JobTimeoutError: Judge._judge_timeout,
    NoServersError: Judge._judge_unsent,
    ServerError: Judge._judge_refused,
}
"""What may be said of a job that was not completed; there is nothing else."""
