import pickle

import pytest

from geartrain import errors
from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    GearmanError,
    JobError,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    JobTooLargeError,
    NoServersError,
    NoWorkersError,
    ServerError,
    ServerTimeoutError,
)


def test_every_error_has_the_one_root() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), GearmanError)


def test_a_job_timeout_is_a_built_in_timeout_too() -> None:
    assert issubclass(JobTimeoutError, TimeoutError)


@pytest.mark.parametrize("error", [JobFailedError, JobExceptionError, JobTimeoutError, JobLostError, JobTooLargeError])
def test_what_ends_one_job_only_is_a_job_error(error: type[GearmanError]) -> None:
    assert issubclass(error, JobError)


@pytest.mark.parametrize(
    "error", [ClientDisconnectedError, ConnectionLostError, NoServersError, NoWorkersError, ServerError]
)
def test_what_may_end_every_job_is_no_job_error(error: type[GearmanError]) -> None:
    assert not issubclass(error, JobError)


@pytest.mark.parametrize(
    "error",
    [
        ServerError("no", code="QUEUE_ERROR", text="Job queue is full", server="a:1"),
        ServerTimeoutError("late", server="a:1", seconds=3.0),
        ConnectionLostError("lost", server="a:1", handle="H:a:1", outcome="accepted"),
        JobTimeoutError("late", handle="H:a:1", seconds=3.0, scope="try"),
        JobLostError("lost", server="a:1", handle="H:a:1"),
        JobTooLargeError("too large", size=2000, limit=1000),
    ],
)
def test_an_error_keeps_its_facts_between_processes(error: GearmanError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
