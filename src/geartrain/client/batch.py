"""Many jobs at once: results in the order of the workloads, and jobs in the order in which they end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TypeAlias

from geartrain.client.job import Job
from geartrain.handle import JobHandle

__all__ = ["Workloads", "iterate_as_completed", "iterate_results"]

Workloads: TypeAlias = Iterable[bytes | str] | AsyncIterable[bytes | str]
_Submit: TypeAlias = Callable[[bytes | str], Job]


async def iterate_results(
    submit: _Submit, workloads: Workloads, limit: int, return_exceptions: bool
) -> AsyncGenerator[bytes | JobHandle | Exception, None]:
    """Yield what each of the jobs of :func:`_iterate_ended` has come to."""
    async with aclosing(_iterate_ended(submit, workloads, limit)) as jobs:
        async for job in jobs:
            error = job.exception()
            if error is not None:
                if not (return_exceptions and isinstance(error, Exception)):
                    raise error
                yield error
            elif job.task.background:
                assert job.handle is not None, "a background job is done when it has its handle"
                yield job.handle
            else:
                yield job.result()


async def _iterate_ended(submit: _Submit, workloads: Workloads, limit: int) -> AsyncGenerator[Job, None]:
    """
    Submit a job per workload, at most ``limit`` at a time, and yield them ended, in the order of the workloads.

    What the source of the workloads raises is raised in its place, when all jobs before it have been yielded.
    Whatever ends the iteration, jobs that are still outstanding are cancelled.
    """
    jobs: deque[Job] = deque()
    try:
        if isinstance(workloads, AsyncIterable):
            async with aclosing(_from_async(submit, aiter(workloads), jobs, limit)) as ended:
                async for job in ended:
                    yield job
            return
        source = iter(workloads)
        end: Exception | None = None
        while True:
            if end is None:
                end = _fill(submit, source, jobs, limit)
            if not jobs:
                if isinstance(end, StopIteration):
                    return
                assert end is not None, "a source that goes on has given a workload"
                raise end
            if not jobs[0].done():
                await asyncio.wait((jobs[0],))
            yield jobs.popleft()
    finally:
        for job in jobs:
            if not job.cancel() and not job.cancelled():
                job.exception()  # nobody asks for it any more


def _fill(submit: _Submit, source: Iterator[bytes | str], jobs: deque[Job], limit: int) -> Exception | None:
    """Submit what there is room for; return what the source has ended by, ``StopIteration`` or an error."""
    try:
        while len(jobs) < limit:
            jobs.append(submit(next(source)))
    except Exception as end:  # noqa: BLE001  # it is raised when its turn has come
        return end
    return None


async def _from_async(
    submit: _Submit, source: AsyncIterator[bytes | str], jobs: deque[Job], limit: int
) -> AsyncGenerator[Job, None]:
    """As for plain workloads; while the next one is waited for, results go out."""
    wanted: asyncio.Queue[asyncio.Future[bytes | str]] = asyncio.Queue()
    feeding = asyncio.create_task(_feed(source, wanted))
    pulling: asyncio.Future[bytes | str] | None = None
    end: Exception | None = None  # what the source has ended by
    try:
        while True:
            if pulling is None and end is None and len(jobs) < limit:
                pulling = asyncio.get_running_loop().create_future()
                wanted.put_nowait(pulling)
            waiting = [future for future in (jobs[0] if jobs else None, pulling) if future is not None]
            if not waiting:
                if isinstance(end, StopAsyncIteration):
                    return
                assert end is not None, "a source that goes on is waited for"
                raise end
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pulling is not None and pulling.done():
                try:
                    jobs.append(submit(pulling.result()))
                except Exception as error:  # noqa: BLE001  # it is raised when its turn has come
                    end = error
                pulling = None
            if jobs and jobs[0].done():
                yield jobs.popleft()
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
