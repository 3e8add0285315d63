"""The judge of a run finds each sort of lie."""

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
from tests.faults.jobs import KINDS, LAST, MAPPED, Asked
from tests.faults.judge import Judge
from tests.faults.run import Befallen, Outcome

SERVER = "127.0.0.1:4730"


@dataclass
class SaidOfJob:
    """What a client says of a job in the end."""

    end: Any  # the result or the error; None: there is no end
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


def asked(
    kind: str, end: Any, *, tries: int = 1, retry_count: int = 0, told: str = "", ends: int = 1, took: float = 1.0
) -> Asked:
    """Return a job of the name "job" that was submitted when the run began."""
    job: Any = SaidOfJob(end, tries)
    return Asked(
        "job",
        {**KINDS, "last": LAST, "mapped fail": MAPPED["fail"]}[kind],
        retry_count,
        with_callbacks=bool(told),
        told=told.split(", "),
        job=job,
        begun_at=0.0,
        ended_at=took,
        ends=ends,
    )


def judge(*jobs: Asked, ran: str = "", hit: str = "") -> list[str]:
    faults = [Befallen(hit, "cut", 0.5, 0.6)] if hit else []
    return Judge(Outcome(list(jobs), faults=faults, ran=Counter((what, "job") for what in ran.split()))).judge()


LOST = ConnectionLostError("lost", server=SERVER, handle="H:1", outcome="accepted")
FORGOTTEN = JobLostError("forgotten", server=SERVER, handle="H:1")
RAISED = JobExceptionError("raised", data=b"ValueError: job")
REFUSED = ServerError("full", code="QUEUE_ERROR", text="", server=SERVER)
TIMED_OUT = JobTimeoutError("late", handle=None, seconds=1.0, scope="job")
UNSENT = NoServersError("nobody", errors={SERVER: OSError()})
RIGHT = b" boj"

TRUTHS: dict[str, list[str]] = {
    "completed": judge(asked("plain", RIGHT), ran="began completed"),
    "completed, with callbacks": judge(asked("plain", RIGHT, told="created, complete"), ran="began completed"),
    "completed by the last try": judge(
        asked("plain", RIGHT, tries=3, retry_count=3, told="created, retry 1, retry 2, created, complete"),
        ran="began began began completed",
    ),
    "merged": judge(asked("unique", RIGHT), asked("unique", RIGHT), ran="began completed began"),
    "in the background": judge(asked("background", b"")),
    "failed": judge(asked("fail", JobFailedError("failed")), ran="began failed"),
    "failed by the server": judge(asked("plain", JobFailedError("failed")), hit="workers"),
    "raised": judge(asked("raise", RAISED, told="created, exception, fail"), ran="began raised"),
    "lost": judge(asked("plain", LOST), hit=SERVER),
    "forgotten": judge(asked("unique", FORGOTTEN), hit=SERVER),
    "unsent": judge(asked("plain", UNSENT, retry_count=3), hit=SERVER),
    "refused": judge(asked("plain", REFUSED), hit=SERVER),
    "refused after a run": judge(asked("plain", REFUSED, tries=2, retry_count=1), ran="began", hit=SERVER),
    "timed out": judge(asked("deadline", TIMED_OUT), ran="began completed"),
    "cancelled": judge(asked("cancelled", asyncio.CancelledError(), told="created, fail"), ran="began"),
}

LIES: dict[str, tuple[list[str], str]] = {
    "no end": (judge(asked("plain", None)), "it has not ended"),
    "two ends": (judge(asked("plain", RIGHT, ends=2), ran="completed"), "ended 2 times"),
    "an end long after its time": (judge(asked("deadline", TIMED_OUT, took=9.0), ran="began"), "was to end in 0.15"),
    "a try too many": (judge(asked("plain", RIGHT, tries=2), ran="completed"), "it had 2 tries"),
    "a run too many": (judge(asked("plain", RIGHT), ran="began began completed"), "ran 2 times"),
    "a run of nobody": (judge(ran="began"), "job ran, and was never submitted"),
    "a run of what was unsent": (judge(asked("plain", UNSENT), ran="began", hit=SERVER), "ran 1 times"),
    "a run of what was refused": (judge(asked("plain", REFUSED), ran="began", hit=SERVER), "ran 1 times"),
    "an answer of nobody": (judge(asked("plain", RIGHT), ran="began"), "no worker has completed it"),
    "the answer of another job": (judge(asked("plain", b" rehto"), ran="began completed"), "wrong answer"),
    "no data": (judge(asked("data", b""), ran="began completed"), "wrong data"),
    "an answer of what fails": (judge(asked("fail", RIGHT), ran="began completed"), "its function only fails"),
    "an answer of what fails in a map": (judge(asked("mapped fail", RIGHT), ran="began completed"), "only fails"),
    "a failure of nobody": (judge(asked("fail", JobFailedError("failed"))), "no worker has failed it"),
    "an exception of nobody": (judge(asked("raise", RAISED)), "it has not"),
    "another's exception": (
        judge(asked("raise", JobExceptionError("", data=b"ValueError: other")), ran="raised"),
        "exception of another job",
    ),
    "a limit of nobody": (judge(asked("plain", TIMED_OUT)), "no such time limit"),
    "a loss of nothing": (judge(asked("plain", LOST)), "nothing was wrong"),
    "a loss elsewhere": (judge(asked("plain", LOST), hit="127.0.0.1:4731"), "nothing was wrong"),
    "forgotten by nobody": (judge(asked("plain", FORGOTTEN)), "nothing was wrong"),
    "unsent for no reason": (judge(asked("plain", UNSENT)), "nothing was wrong"),
    "unsent by the second try": (judge(asked("plain", UNSENT, tries=2, retry_count=1), hit=SERVER), "it was"),
    "refused for no reason": (judge(asked("plain", REFUSED)), "not full"),
    "lost in spite of retries": (judge(asked("last", LOST, tries=4, retry_count=3), hit=SERVER), "retries enough"),
    "a cancel by nobody": (judge(asked("plain", asyncio.CancelledError())), "nobody has cancelled it"),
    "an unknown error": (judge(asked("plain", ValueError())), "unknown sort"),
    "an end that was not told": (judge(asked("plain", RIGHT, told="created"), ran="completed"), "not told last"),
    "the wrong end": (judge(asked("plain", RIGHT, told="created, fail"), ran="completed"), "not told last"),
    "two handles in a try": (judge(asked("plain", RIGHT, told="created, created, complete"), ran="completed"), "twice"),
    "no handle": (judge(asked("plain", RIGHT, told="complete"), ran="completed"), "before it had a handle"),
    "a retry of nothing": (judge(asked("plain", RIGHT, told="retry 2, complete"), ran="completed"), "wrong time"),
}


@pytest.mark.parametrize("case", TRUTHS)
def test_what_is_true_is_believed(case: str) -> None:
    assert TRUTHS[case] == []


@pytest.mark.parametrize("case", LIES)
def test_what_is_not_true_is_found(case: str) -> None:
    broken, words = LIES[case]
    assert any(words in sentence for sentence in broken), broken
