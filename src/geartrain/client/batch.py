"""Many jobs at once: results in the order of the workloads, and jobs in the order in which they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import TypeAlias

from geartrain.client.job import Job
from geartrain.client.outstanding import Outstanding
from geartrain.client.task import encode_workload
from geartrain.handle import JobHandle

__all__ = ["Workloads", "iterate_as_completed", "iterate_results"]

Workloads: TypeAlias = Iterable[bytes | str] | AsyncIterable[bytes | str]
_Ended: TypeAlias = list[bytes | JobHandle | Job]


async def iterate_results(
    outstanding: Outstanding, workloads: Workloads, limit: int, return_exceptions: bool
) -> AsyncGenerator[bytes | JobHandle | Exception, None]:
    """
    Submit a job per workload, at most ``limit`` at a time, and yield what they come to, in the order of the workloads.

    What the source of the workloads raises is raised in its place, when all results before it have been yielded.
    Whatever ends the iteration, jobs that are still outstanding are cancelled.
    """
    if isinstance(workloads, AsyncIterable):
        ended = _from_async(outstanding, aiter(workloads), limit)
    else:
        ended = _from_plain(outstanding, iter(workloads), limit)
    try:
        async with aclosing(ended):
            async for some in ended:
                for outcome in some:
                    yield _result_of(outcome, return_exceptions) if isinstance(outcome, Job) else outcome
    finally:
        outstanding.cancel()


def _result_of(job: Job, return_exceptions: bool) -> bytes | JobHandle | Exception:
    error = job.exception()
    if error is not None:
        if return_exceptions and isinstance(error, Exception):
            return error
        raise error
    if not job._task.background:
        return job.result()
    assert job.handle is not None, "a background job is done when it has its handle"
    return job.handle


async def _from_plain(
    outstanding: Outstanding, source: Iterator[bytes | str], limit: int
) -> AsyncGenerator[_Ended, None]:
    """Submit what there is room for, and yield what has ended, some at a time, so that there is room again."""
    end: Exception | None = None  # what the source has ended by
    some = min(max(1, limit // 4), 1000)  # more at a time are no cheaper, and are looked at for each that trickles in
    while True:
        if end is None:
            workloads, end = _pull(source, limit - len(outstanding))
            try:
                outstanding.submit(workloads)
            except ValueError as error:  # it is raised when its turn has come
                end = error
        if not outstanding:
            if isinstance(end, StopIteration):
                return
            assert end is not None, "a source that goes on has given a workload"
            raise end
        if ended := outstanding.take(some):
            yield ended
        else:
            await outstanding.wait()


def _pull(source: Iterator[bytes | str], at_most: int) -> tuple[list[bytes], Exception | None]:
    """Return the next workloads, and what the source has ended by if it has: ``StopIteration`` or an error."""
    workloads: list[bytes] = []
    try:
        for workload in islice(source, at_most):  # what comes before an error counts
            workloads.append(workload if type(workload) is bytes else encode_workload(workload))  # noqa: PERF401
    except Exception as end:  # noqa: BLE001  # it is raised when its turn has come
        return workloads, end
    return workloads, StopIteration() if len(workloads) < at_most else None


async def _from_async(
    outstanding: Outstanding, source: AsyncIterator[bytes | str], limit: int
) -> AsyncGenerator[_Ended, None]:
    """As for plain workloads; while the next one is waited for, results go out."""
    wanted: asyncio.Queue[asyncio.Future[bytes | str]] = asyncio.Queue()
    feeding = asyncio.create_task(_feed(source, wanted))
    pulling: asyncio.Future[bytes | str] | None = None
    end: Exception | None = None  # what the source has ended by
    try:
        while True:
            if pulling is None and end is None and len(outstanding) < limit:
                pulling = asyncio.get_running_loop().create_future()
                wanted.put_nowait(pulling)
            waiting = [future for future in (outstanding.first, pulling) if future is not None]
            if not waiting:
                if isinstance(end, StopAsyncIteration):
                    return
                assert end is not None, "a source that goes on is waited for"
                raise end
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pulling is not None and pulling.done():
                try:
                    outstanding.submit([encode_workload(pulling.result())])
                except Exception as error:  # noqa: BLE001  # it is raised when its turn has come
                    end = error
                pulling = None
            if ended := outstanding.take(1):
                yield ended
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))


async def _feed(source: AsyncIterator[bytes | str], wanted: asyncio.Queue[asyncio.Future[bytes | str]]) -> None:
    """Put workloads into futures, all from one task: to that belong the timeouts and context variables of a source."""
    this = asyncio.current_task()
    assert this is not None, "it is run as a task"
    while not this.cancelling():  # a source may swallow that, and go on
        pulled = await wanted.get()
        try:
            workload = await anext(source)
        except Exception as error:  # noqa: BLE001  # it ends the iteration, if that still wants to know
            if isinstance(error, StopIteration):  # no future takes that, as no generator does
                error = RuntimeError(f"the source of the workloads raised {error!r}, not StopAsyncIteration")
            pulled.set_exception(error)
            pulled.exception()  # nobody is told of it if the iteration has been left meanwhile
        except BaseException:
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
        job._pool.check_place()
        job.add_done_callback(put)
    try:
        for _ in range(len(waiting)):
            yield await ended.get()
    finally:
        for job in waiting:
            job.remove_done_callback(put)
