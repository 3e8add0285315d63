"""The job object that is passed to functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geartrain.printable import printable
from geartrain.protocol.packets import PacketType
from geartrain.protocol.worker import encode_status
from geartrain.worker.exceptions import type_name

if TYPE_CHECKING:
    from geartrain.worker.reporter import JobReporter

__all__ = ["WorkerJob", "encode_result", "reporter_of"]


class WorkerJob:
    """
    One job, from the time a job server assigned it to this worker until its function ends.

    Attributes:
        function: The name of the function, without the worker's prefix.
        workload: The workload that the client sent.
    """

    __slots__ = ("_reporter", "function", "workload")

    def __init__(self, reporter: JobReporter, function: str) -> None:
        self._reporter = reporter
        self.function: str = function
        self.workload: bytes = reporter.assignment.workload

    @property
    def unique(self) -> str:
        """The unique key that the client set, or ``""`` if there is none. Perl's job server never sends it."""
        return self._reporter.assignment.unique.decode("utf-8", "surrogateescape")

    @property
    def handle(self) -> str:
        """The job server's name for the job, such as ``H:host:1``."""
        return self._reporter.assignment.handle.decode("utf-8", "surrogateescape")

    @property
    def server(self) -> str:
        """The address of the job server."""
        return self._reporter.server

    @property
    def lost(self) -> bool:
        """
        Whether the connection to the job server is lost, and the job with it.

        The job server gives the job to another worker and receives nothing more about it from here. A long function may
        check this and end early.
        """
        return self._reporter.is_lost

    def send_status(self, numerator: float, denominator: float) -> None:
        """
        Report the progress of the job to the client: ``numerator`` of ``denominator``.

        Clients receive fractions; for status requests, job servers keep only the integer part.

        Raises:
            TypeError: If one of them is not a number.
            ValueError: If one of them is infinite or NaN.
            LocalProtocolError: If the denominator is longer than 11 characters, or the job has ended.
        """
        self._reporter.send_update(PacketType.WORK_STATUS, encode_status(_number(numerator), _number(denominator)))

    def send_data(self, data: bytes | str) -> None:
        """
        Send a part of the result, as WORK_DATA; text is encoded as UTF-8.

        In the event loop it never blocks: when you send a lot, ``await job.drain()`` regularly. In a thread or process
        it blocks while the job server is slow to receive.

        Raises:
            TypeError: If it is neither bytes nor text.
            JobTooLargeError: If it is longer than the worker's ``max_packet_size``.
            LocalProtocolError: If the job has ended.
        """
        self._reporter.send_update(PacketType.WORK_DATA, _encode("data", data))

    def send_warning(self, data: bytes | str) -> None:
        """
        Send a warning to the client, as WORK_WARNING; the job continues.

        Raises:
            TypeError: If it is neither bytes nor text.
            JobTooLargeError: If it is longer than the worker's ``max_packet_size``.
            LocalProtocolError: If the job has ended.
        """
        self._reporter.send_update(PacketType.WORK_WARNING, _encode("a warning", data))

    async def drain(self) -> None:
        """Wait until most of what was sent is received, or the connection is lost. For coroutine functions."""
        await self._reporter.drain()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.function!r} {printable(self._reporter.assignment.handle)} of {self.server}>"
        )


def reporter_of(job: WorkerJob) -> JobReporter:
    """Return the reporter of a job."""
    return job._reporter


def encode_result(function: str, result: object) -> bytes:
    """
    Encode what a function returned.

    Raises:
        TypeError: If it is not bytes, text or ``None``.
    """
    return b"" if result is None else _encode(f"the result of {function!r}", result)


def _encode(what: str, data: object) -> bytes:
    if type(data) is bytes:
        return data
    # A subclass may override methods such as __len__, and any object may claim a class by its __class__.
    if isinstance(data, str):
        return str.encode(data, "utf-8", "surrogateescape")
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(memoryview(data))
    raise TypeError(f"{what} is bytes or text, got {type_name(data)}")


def _number(value: float) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a status is two numbers, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"a status is two finite numbers, got {value!r}")
    return str(value).encode()
