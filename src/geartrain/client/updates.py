"""Job updates (data, warnings, progress) and the iterator that delivers them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Protocol, TypeAlias

from geartrain.protocol.numbers import fraction

__all__ = ["JobData", "JobProgress", "JobUpdate", "JobWarning", "ReadControl", "UpdateStream"]

# Updates, or bytes of them, that are buffered for one consumer before the connection stops reading. The rest of the
# last read is buffered as well.
MAX_UPDATES = 256
MAX_SIZE = 32 * 1024 * 1024


class JobData(NamedTuple):
    """A part of the result: the body of WORK_DATA."""

    data: bytes


class JobWarning(NamedTuple):
    """The body of WORK_WARNING."""

    data: bytes


class JobProgress(NamedTuple):
    """The progress from a WORK_STATUS; floats if the worker sent fractions."""

    numerator: int | float
    denominator: int | float

    @property
    def fraction(self) -> float | None:
        """Between 0.0 and 1.0, or ``None`` if the two numbers form no such fraction."""
        return fraction(self.numerator, self.denominator)


JobUpdate: TypeAlias = JobData | JobWarning | JobProgress


class ReadControl(Protocol):
    """Pauses the connection of a job whose consumer has to catch up."""

    def pause_reading(self) -> None:
        """Stop reading; each call needs one of :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Read again, unless another consumer has to catch up."""


class UpdateStream:
    """
    The updates of one job from now on, in wire order, until the job ends. ``aiter(job)`` makes one.

    If the consumer falls behind by too many updates, or bytes of them, the job's connection stops reading until it has
    caught up.
    """

    def __init__(self, job: asyncio.Future[bytes]) -> None:
        self._job = job
        self._waiting: deque[JobUpdate] = deque()
        self._size = 0  # bytes of data in these
        self._wakeup: asyncio.Future[None] | None = None
        self._paused: ReadControl | None = None

    def __aiter__(self) -> UpdateStream:
        return self

    async def __anext__(self) -> JobUpdate:
        while not self._waiting:
            if self._job.done():
                raise StopAsyncIteration
            if self._wakeup is not None:
                raise RuntimeError("two consumers wait on one iterator of a job; give each its own by aiter(job)")
            self._wakeup = self._job.get_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        update = self._waiting.popleft()
        self._size -= _size_of(update)
        if len(self._waiting) <= MAX_UPDATES // 2 and self._size <= MAX_SIZE // 2:
            self._resume()
        return update

    def put(self, update: JobUpdate, connection: ReadControl | None) -> None:
        """Append an update; pause the connection if there are too many."""
        self._waiting.append(update)
        self._size += _size_of(update)
        self._wake()
        too_much = len(self._waiting) >= MAX_UPDATES or self._size >= MAX_SIZE
        if too_much and connection is not None and self._paused is not connection:
            self._resume()  # the connection of an earlier try
            self._paused = connection
            connection.pause_reading()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def close(self) -> None:
        """Release the connection and wake up the consumer: the job is about to end."""
        self._resume()
        self._wake()

    def _resume(self) -> None:
        if self._paused is not None:
            self._paused.resume_reading()
            self._paused = None

    def __del__(self) -> None:
        # A consumer that has left its loop must not block the connection forever.
        self._resume()


def _size_of(update: JobUpdate) -> int:
    return 0 if isinstance(update, JobProgress) else len(update.data)
