"""The iterators behind ``map`` and ``as_completed``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import TypeAlias

from geartrain.client.job import Job, submission_of
from geartrain.client.submission_batch import TrackedJob
from geartrain.client.task_spec import encode_workload
from geartrain.client.window import SubmissionWindow
from geartrain.handle import JobHandle

__all__ = ["Workloads", "iterate_as_completed", "iterate_results"]

Workloads: TypeAlias = Iterable[bytes | str] | AsyncIterable[bytes | str]
_Ended: TypeAlias = list[bytes | JobHandle | TrackedJob]


async def iterate_results(
    window: SubmissionWindow, workloads: Workloads, limit: int, return_exceptions: bool
) -> AsyncGenerator[bytes | JobHandle | Exception, None]:
    """
    Submit a job per workload, at most ``limit`` at a time, and yield their outcomes in the order of the workloads.

    What the source of the workloads raises is raised in its place, when all results before it have been yielded.
    Whatever ends the iteration, jobs that are still outstanding are cancelled.
    """
    if isinstance(workloads, AsyncIterable):
        ended = _map_async(window, aiter(workloads), limit)
    else:
        ended = _map_sync(window, iter(workloads), limit)
    try:
        async with aclosing(ended):
            async for some in ended:
                for outcome in some:
                    yield _result_of(outcome, return_exceptions) if isinstance(outcome, TrackedJob) else outcome
    finally:
        window.cancel()


def _result_of(job: TrackedJob, return_exceptions: bool) -> bytes | JobHandle | Exception:
    error = job.future.exception()
    if error is not None:
        if return_exceptions and isinstance(error, Exception):
            return error
        raise error
    if not job.submission.spec.options.background:
        return job.future.result()
    handle = job.submission.handle
    assert handle is not None, "a background job is done when it has its handle"
    return handle


async def _map_sync(
    window: SubmissionWindow, source: Iterator[bytes | str], limit: int
) -> AsyncGenerator[_Ended, None]:
    """Submit as many jobs as there is room for, and yield outcomes in parts to make room again."""
    end: Exception | None = None  # how the source has ended
    some = min(max(1, limit // 4), 1000)  # a larger part saves nothing, and `take` reads it all at each call
    while True:
        if end is None:
            workloads, end = _pull(source, limit - len(window))
            try:
                window.submit(workloads)
            except ValueError as error:  # raised in its turn
                end = error
        if not window:
            if isinstance(end, StopIteration):
                return
            assert end is not None, "a source that goes on has given a workload"
            raise end
        if ended := window.take(some):
            yield ended
        else:
            await window.wait()


def _pull(source: Iterator[bytes | str], at_most: int) -> tuple[list[bytes], Exception | None]:
    """Return the next workloads, and how the source has ended if it has: ``StopIteration`` or an error."""
    workloads: list[bytes] = []
    try:
        for workload in islice(source, at_most):  # what comes before an error counts
            workloads.append(workload if type(workload) is bytes else encode_workload(workload))  # noqa: PERF401
    except Exception as end:  # noqa: BLE001  # raised in its turn
        return workloads, end
    return workloads, StopIteration() if len(workloads) < at_most else None


async def _map_async(
    window: SubmissionWindow, source: AsyncIterator[bytes | str], limit: int
) -> AsyncGenerator[_Ended, None]:
    """Like ``_map_sync``, but also yield results while waiting for the next workload."""
    wanted: asyncio.Queue[asyncio.Future[bytes | str]] = asyncio.Queue()
    feeding = asyncio.create_task(_read_source(source, wanted))
    pulling: asyncio.Future[bytes | str] | None = None
    end: Exception | None = None  # how the source has ended
    try:
        while True:
            if pulling is None and end is None and len(window) < limit:
                pulling = asyncio.get_running_loop().create_future()
                wanted.put_nowait(pulling)
            waiting = [future for future in (window.first, pulling) if future is not None]
            if not waiting:
                if isinstance(end, StopAsyncIteration):
                    return
                assert end is not None, "a source that goes on is waited for"
                raise end
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pulling is not None and pulling.done():
                try:
                    window.submit([encode_workload(pulling.result())])
                except Exception as error:  # noqa: BLE001  # raised in its turn
                    end = error
                pulling = None
            if ended := window.take(1):
                yield ended
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))


async def _read_source(source: AsyncIterator[bytes | str], wanted: asyncio.Queue[asyncio.Future[bytes | str]]) -> None:
    """Put workloads into futures, all from one task: a source's timeouts and context variables belong to its task."""
    this = asyncio.current_task()
    assert this is not None, "it is run as a task"
    while not this.cancelling():  # a source may suppress the cancellation
        pulled = await wanted.get()
        try:
            workload = await anext(source)
        except Exception as error:  # noqa: BLE001  # it ends the iteration, unless that has been left
            if isinstance(error, StopIteration):  # a future does not accept it
                error = RuntimeError(f"the source of the workloads raised {error!r}, not StopAsyncIteration")
            pulled.set_exception(error)
            pulled.exception()  # not reported as never retrieved if the iteration has been left
        except BaseException:  # cancellation as well: nobody will set the result
            pulled.cancel()
            raise
        else:
            pulled.set_result(workload)


async def iterate_as_completed(jobs: Iterable[Job]) -> AsyncGenerator[Job, None]:
    """Yield jobs in the order in which they end; those that have ended come first."""
    ended: asyncio.Queue[Job] = asyncio.Queue()
    waiting = list(jobs)
    put = ended.put_nowait
    for job in waiting:
        submission_of(job).scheduler.runtime.check_job_access()
        job.add_done_callback(put)
    try:
        for _ in range(len(waiting)):
            yield await ended.get()
    finally:
        for job in waiting:
            job.remove_done_callback(put)
