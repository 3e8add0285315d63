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


def test_all_errors_have_one_base_class() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), GearmanError)


def test_a_job_timeout_is_also_a_built_in_timeout_error() -> None:
    assert issubclass(JobTimeoutError, TimeoutError)


@pytest.mark.parametrize("error", [JobFailedError, JobExceptionError, JobTimeoutError, JobLostError, JobTooLargeError])
def test_errors_of_one_job_are_job_errors(error: type[GearmanError]) -> None:
    assert issubclass(error, JobError)


@pytest.mark.parametrize(
    "error", [ClientDisconnectedError, ConnectionLostError, NoServersError, NoWorkersError, ServerError]
)
def test_errors_that_affect_every_job_are_not_job_errors(error: type[GearmanError]) -> None:
    assert not issubclass(error, JobError)


@pytest.mark.parametrize(
    "error",
    [
        ServerError("no", code="QUEUE_ERROR", text="Job queue is full", server="a:1"),
        ServerTimeoutError("late", server="a:1", seconds=3.0),
        ConnectionLostError("lost", server="a:1", handle="H:a:1", outcome="accepted"),
        JobFailedError("failed", reason="no paper"),
        JobTimeoutError("late", handle="H:a:1", seconds=3.0, scope="try"),
        JobLostError("lost", server="a:1", handle="H:a:1"),
        JobTooLargeError("too large", size=2000, limit=1000),
    ],
)
def test_an_error_keeps_its_attributes_when_pickled(error: GearmanError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
