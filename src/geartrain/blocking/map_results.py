"""The iterator behind ``map``: hands workloads over in chunks, because each hand-over costs two changes of threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from geartrain import JobHandle, Mailbox
from geartrain.blocking.loop_call import CoroutineCall

if TYPE_CHECKING:
    from geartrain.blocking.loop_thread import LoopThread

__all__ = ["MapChunk", "iterate_results"]

Outcome: TypeAlias = bytes | JobHandle | Exception
MapChunk: TypeAlias = Callable[[list[bytes | str]], AsyncGenerator[Outcome, None]]
"""Submits a chunk of workloads, and yields their outcomes in order, the error of a job in its place."""

_MAX_CHUNK: Final = 1000
_MAX_DRAWING: Final = 0.001  # seconds; a slow source is not waited for before what it has given is submitted


class _End:
    """The last item of a chunk."""

    def __init__(self, failure: BaseException | None) -> None:
        self.failure = failure


def iterate_results(
    thread: LoopThread, map_chunk: MapChunk, workloads: Iterable[bytes | str], limit: int, return_exceptions: bool
) -> Generator[Outcome, None, None]:
    """
    Submit a job per workload, at most ``limit`` at a time, and yield their outcomes in the order of the workloads.

    The workloads are drawn in the caller's thread: their source may block, or use the same client.
    """
    chunks: deque[_Chunk] = deque()
    source: Iterator[bytes | str] | None = iter(workloads)
    drawn = 0  # whose outcomes have not been yielded
    size = min(max(1, limit // 4), _MAX_CHUNK)
    failure: BaseException | None = None  # of the source
    try:
        while True:
            if source is not None and limit - drawn >= size and not (chunks and chunks[0].is_ready):
                chunk, failure = _draw(source, size)
                drawn += len(chunk)
                if chunk:
                    chunks.append(_Chunk(thread, partial(map_chunk, chunk)))
                    chunks[-1].start()
                if failure is not None:
                    source = None
                continue
            if not chunks:
                break
            outcome = chunks[0].outcomes.get()
            if isinstance(outcome, _End):
                chunks.popleft()
                if outcome.failure is not None:
                    raise outcome.failure
                continue
            drawn -= 1
            if isinstance(outcome, Exception) and not return_exceptions:
                try:
                    raise outcome
                finally:
                    del outcome  # its traceback refers to this frame
            yield outcome
        if failure is not None and not isinstance(failure, StopIteration):
            raise failure
    finally:
        for left in chunks:
            left.cancel()


def _draw(source: Iterator[bytes | str], at_most: int) -> tuple[list[bytes | str], BaseException | None]:
    """Return the next workloads, and how the source has ended if it has: ``StopIteration`` or an error."""
    workloads: list[bytes | str] = []
    give_up_at = time.perf_counter() + _MAX_DRAWING
    try:
        for workload in islice(source, at_most):
            workloads.append(workload)
            if time.perf_counter() > give_up_at:
                return workloads, None
    except Exception as error:  # noqa: BLE001  # raised in its turn
        return workloads, error
    return workloads, StopIteration() if len(workloads) < at_most else None


class _Chunk:
    """The outcomes of some workloads, as they arrive."""

    def __init__(self, thread: LoopThread, submit: Callable[[], AsyncGenerator[Outcome, None]]) -> None:
        self.outcomes: Mailbox[Outcome | _End] = Mailbox()
        self._submit = submit
        self._thread = thread
        self._started: CoroutineCall[None] = CoroutineCall(thread, self._run, self._on_end)

    def start(self) -> None:
        """Submit the jobs."""
        self._thread.start_call(self._started)

    @property
    def is_ready(self) -> bool:
        """Whether its next outcome has arrived."""
        return not self.outcomes.is_empty

    async def _run(self) -> None:
        put = self.outcomes.put
        async for outcome in self._submit():
            put(outcome)

    def _on_end(self, _: None, failure: BaseException | None) -> None:
        self.outcomes.put(_End(failure))

    def cancel(self) -> None:
        """Discard the jobs that have not ended."""
        self._started.cancel()
