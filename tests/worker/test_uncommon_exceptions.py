"""A BaseException that a function raises ends the job, not the worker."""

from __future__ import annotations

import pytest

from geartrain.worker import Worker, WorkerJob
from tests.support.async_wire import connected
from tests.support.gearmand import Gearmand
from tests.support.working import working
from tests.worker.test_worker import add_reverse


class PanicError(BaseException):
    """Like the panics of Rust extensions."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(3), b"SystemExit: 3"),
        (PanicError("panicked"), b"PanicError: panicked"),
        (StopIteration("end"), b"RuntimeError: a function raised StopIteration: end"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("place", ["thread", "loop"])
async def test_the_exception_is_reported_to_the_client_and_the_worker_continues(
    gearmand: Gearmand, error: BaseException, message: bytes, place: str
) -> None:
    worker = Worker(gearmand.address)
    add_reverse(worker)

    @worker.function("thread")
    def in_thread(job: WorkerJob) -> None:
        raise error

    @worker.function("loop")
    async def in_loop(job: WorkerJob) -> None:
        raise error

    if place == "loop" and isinstance(error, StopIteration):
        message = b"RuntimeError: coroutine raised StopIteration"  # Python's message
    async with working(worker), connected(gearmand.address, exceptions=True) as client:
        assert await client.do(place) == ("WORK_EXCEPTION", message)
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
    assert (worker.statistics().raised, worker.statistics().completed) == (1, 1)
