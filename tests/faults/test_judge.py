"""The judge of a run detects each kind of false report."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from geartrain import (
    ConnectionLostError,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NoServersError,
    ServerError,
)
from tests.faults.jobs import KINDS, LAST, MAPPED, JobRecord
from tests.faults.judge import Judge
from tests.faults.run import InjectedFault, Outcome

SERVER = "127.0.0.1:4730"


@dataclass
class ReportedJob:
    """A job as the client reported it."""

    end: Any  # the result or the error; None if it has not ended
    tries: int = 1

    def done(self) -> bool:
        return self.end is not None

    def cancelled(self) -> bool:
        return isinstance(self.end, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        return self.end if isinstance(self.end, Exception) else None

    def result(self) -> bytes:
        assert isinstance(self.end, bytes)
        return self.end


def record(
    kind: str, end: Any, *, tries: int = 1, retry_count: int = 0, callbacks: str = "", ends: int = 1, took: float = 1.0
) -> JobRecord:
    """Return a job named "job" that was submitted when the run began."""
    job: Any = ReportedJob(end, tries)
    return JobRecord(
        "job",
        {**KINDS, "last": LAST, "mapped fail": MAPPED["fail"]}[kind],
        retry_count,
        with_callbacks=bool(callbacks),
        callbacks=callbacks.split(", "),
        job=job,
        begun_at=0.0,
        ended_at=took,
        ends=ends,
    )


def judge(*jobs: JobRecord, ran: str = "", hit: str = "") -> list[str]:
    faults = [InjectedFault(hit, "cut", 0.5, 0.6)] if hit else []
    return Judge(Outcome(list(jobs), faults=faults, ran=Counter((what, "job") for what in ran.split()))).judge()


LOST = ConnectionLostError("lost", server=SERVER, handle="H:1", outcome="accepted")
FORGOTTEN = JobLostError("forgotten", server=SERVER, handle="H:1")
RAISED = JobExceptionError("raised", data=b"ValueError: job")
REFUSED = ServerError("full", code="QUEUE_ERROR", text="", server=SERVER)
TIMED_OUT = JobTimeoutError("late", handle=None, seconds=1.0, scope="job")
UNSENT = NoServersError("unreachable", errors={SERVER: OSError()})
RIGHT = b" boj"

TRUE_REPORTS: dict[str, list[str]] = {
    "completed": judge(record("plain", RIGHT), ran="began completed"),
    "completed, with callbacks": judge(record("plain", RIGHT, callbacks="created, complete"), ran="began completed"),
    "completed by the last try": judge(
        record("plain", RIGHT, tries=3, retry_count=3, callbacks="created, retry 1, retry 2, created, complete"),
        ran="began began began completed",
    ),
    "merged": judge(record("unique", RIGHT), record("unique", RIGHT), ran="began completed began"),
    "in the background": judge(record("background", b"")),
    "failed": judge(record("fail", JobFailedError("failed")), ran="began failed"),
    "failed by the server": judge(record("plain", JobFailedError("failed")), hit="workers"),
    "raised": judge(record("raise", RAISED, callbacks="created, exception, fail"), ran="began raised"),
    "lost": judge(record("plain", LOST), hit=SERVER),
    "forgotten": judge(record("unique", FORGOTTEN), hit=SERVER),
    "unsent": judge(record("plain", UNSENT, retry_count=3), hit=SERVER),
    "refused": judge(record("plain", REFUSED), hit=SERVER),
    "refused after a run": judge(record("plain", REFUSED, tries=2, retry_count=1), ran="began", hit=SERVER),
    "timed out": judge(record("deadline", TIMED_OUT), ran="began completed"),
    "cancelled": judge(record("cancelled", asyncio.CancelledError(), callbacks="created, fail"), ran="began"),
}

FALSE_REPORTS: dict[str, tuple[list[str], str]] = {
    "no end": (judge(record("plain", None)), "it has not ended"),
    "two ends": (judge(record("plain", RIGHT, ends=2), ran="completed"), "ended 2 times"),
    "an end long after its deadline": (
        judge(record("deadline", TIMED_OUT, took=9.0), ran="began"),
        "did not end within 0.15",
    ),
    "a try too many": (judge(record("plain", RIGHT, tries=2), ran="completed"), "it had 2 tries"),
    "a run too many": (judge(record("plain", RIGHT), ran="began began completed"), "ran 2 times"),
    "a run without a submission": (judge(ran="began"), "job ran, but was never submitted"),
    "a run of an unsent job": (judge(record("plain", UNSENT), ran="began", hit=SERVER), "ran 1 times"),
    "a run of a refused job": (judge(record("plain", REFUSED), ran="began", hit=SERVER), "ran 1 times"),
    "a result without a worker": (judge(record("plain", RIGHT), ran="began"), "no worker completed it"),
    "the result of another job": (judge(record("plain", b" rehto"), ran="began completed"), "wrong result"),
    "no data": (judge(record("data", b""), ran="began completed"), "wrong data"),
    "a result of a failing job": (judge(record("fail", RIGHT), ran="began completed"), "its function always fails"),
    "a result of a failing job in a map": (judge(record("mapped fail", RIGHT), ran="began completed"), "always fails"),
    "a failure without a worker": (judge(record("fail", JobFailedError("failed"))), "no worker failed it"),
    "an exception without a worker": (judge(record("raise", RAISED)), "did not raise"),
    "the exception of another job": (
        judge(record("raise", JobExceptionError("", data=b"ValueError: other")), ran="raised"),
        "exception of another job",
    ),
    "a timeout without a limit": (judge(record("plain", TIMED_OUT)), "no such time limit"),
    "a loss without a fault": (judge(record("plain", LOST)), "nothing was wrong"),
    "a loss at another server": (judge(record("plain", LOST), hit="127.0.0.1:4731"), "nothing was wrong"),
    "forgotten for no reason": (judge(record("plain", FORGOTTEN)), "nothing was wrong"),
    "unsent for no reason": (judge(record("plain", UNSENT)), "nothing was wrong"),
    "unsent by the second try": (judge(record("plain", UNSENT, tries=2, retry_count=1), hit=SERVER), "an earlier try"),
    "refused for no reason": (judge(record("plain", REFUSED)), "not full"),
    "lost in spite of retries": (judge(record("last", LOST, tries=4, retry_count=3), hit=SERVER), "enough retries"),
    "an unrequested cancellation": (judge(record("plain", asyncio.CancelledError())), "not by the application"),
    "an unknown error": (judge(record("plain", ValueError())), "unexpected type"),
    "no callback at the end": (judge(record("plain", RIGHT, callbacks="created"), ran="completed"), "not its end"),
    "the wrong end": (judge(record("plain", RIGHT, callbacks="created, fail"), ran="completed"), "not its end"),
    "two handles in a try": (
        judge(record("plain", RIGHT, callbacks="created, created, complete"), ran="completed"),
        "twice",
    ),
    "no handle": (judge(record("plain", RIGHT, callbacks="complete"), ran="completed"), "before it had a handle"),
    "a retry out of order": (judge(record("plain", RIGHT, callbacks="retry 2, complete"), ran="completed"), "order"),
}


@pytest.mark.parametrize("case", TRUE_REPORTS)
def test_a_true_report_is_accepted(case: str) -> None:
    assert TRUE_REPORTS[case] == []


@pytest.mark.parametrize("case", FALSE_REPORTS)
def test_a_false_report_is_detected(case: str) -> None:
    broken, message = FALSE_REPORTS[case]
    assert any(message in sentence for sentence in broken), broken
