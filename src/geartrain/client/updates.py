"""Job updates (data, warnings, progress) and the iterator that delivers them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Protocol, TypeAlias

from geartrain.errors import LocalProtocolError
from geartrain.protocol.numbers import fraction

__all__ = ["JobData", "JobProgress", "JobUpdate", "JobWarning", "ReadControl", "UpdateStream"]

# Updates, or bytes of them, that are buffered for one consumer before the connection stops reading. The rest of the
# last read is buffered as well.
MAX_UPDATES = 256
MAX_RECORDED = 65536
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

    Args:
        job: The job.
        is_recording: Never stop the connection before the first update is taken, because there may be no consumer.
            What exceeds the limits until then is dropped, and the first one to take an update gets an error.
    """

    def __init__(self, job: asyncio.Future[bytes], *, is_recording: bool = False) -> None:
        self._job = job
        self._is_recording = is_recording
        self._has_overflowed = False
        self._waiting: deque[JobUpdate] = deque()
        self._size = 0  # bytes of data in these
        self._wakeup: asyncio.Future[None] | None = None
        self._paused: ReadControl | None = None

    def __aiter__(self) -> UpdateStream:
        return self

    async def __anext__(self) -> JobUpdate:
        if not await self._wait():
            raise StopAsyncIteration
        update = self._waiting.popleft()
        self._size -= _size_of(update)
        if len(self._waiting) <= MAX_UPDATES // 2 and self._size <= MAX_SIZE // 2:
            self._resume()
        return update

    async def take(self) -> list[JobUpdate]:
        """
        Wait for an update, and return all that have arrived; an empty list when the job has ended.

        Raises:
            LocalProtocolError: If a recording has exceeded the limits before it was read.
        """
        await self._wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._resume()
        return taken

    async def _wait(self) -> bool:
        """Wait for an update; return ``False`` if the job has ended without another one."""
        self._is_recording = False
        if self._has_overflowed:
            raise LocalProtocolError(
                f"more than {MAX_RECORDED} updates, or {MAX_SIZE} bytes of them, arrived before the first was read"
            )
        while not self._waiting:
            if self._job.done():
                return False
            if self._wakeup is not None:
                raise RuntimeError("two consumers wait on one iterator of a job; give each its own by aiter(job)")
            self._wakeup = self._job.get_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        return True

    def put(self, update: JobUpdate, connection: ReadControl | None) -> None:
        """Append an update; pause the connection if there are too many."""
        if self._has_overflowed:
            return
        self._waiting.append(update)
        self._size += _size_of(update)
        if self._is_recording:
            if len(self._waiting) > MAX_RECORDED or self._size > MAX_SIZE:
                self._has_overflowed = True
                self._waiting.clear()
            return
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
