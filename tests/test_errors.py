import pickle

import pytest

from geartrain import errors
from geartrain.errors import ConnectionLostError, GearmanError, JobTimeoutError, ServerError, ServerTimeoutError


def test_every_error_has_the_one_root() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), GearmanError)


def test_a_job_timeout_is_a_built_in_timeout_too() -> None:
    assert issubclass(JobTimeoutError, TimeoutError)


@pytest.mark.parametrize(
    "error",
    [
        ServerError("no", code="QUEUE_ERROR", text="Job queue is full", server="a:1"),
        ServerTimeoutError("late", server="a:1", seconds=3.0),
        ConnectionLostError("lost", server="a:1", handle="H:a:1", outcome="accepted"),
        JobTimeoutError("late", handle="H:a:1", seconds=3.0, scope="try"),
    ],
)
def test_an_error_keeps_its_facts_between_processes(error: GearmanError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
