"""Memory in which a process shows what it does, so that the worker can tell when the process cannot any more."""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
from typing import Final, NamedTuple

from geartrain.worker.counters import WorkerCounters

__all__ = ["Board", "BoardJob", "create_board_file"]

_IS_BUSY: Final = 0  # offset of the byte that makes the job valid
_JOB_AT: Final = 8
_JOB: Final = struct.Struct(
    "=QIIdBB255s"
)  # number, server, connection, due, exception_ends_job, handle with its length
_SERVERS_AT: Final = 320
_COUNTERS: Final = struct.Struct("=6Q")
_BOUNDARIES: Final = struct.Struct("=QQ")
_BOUNDARIES_AT: Final = 8  # within the part of a server; its first byte says whether it is sending
_COUNTERS_AT: Final = 24
_SERVER_SIZE: Final = 72
_MAX_HANDLE: Final = 255


class BoardJob(NamedTuple):
    """
    The job that a process runs.

    Attributes:
        number: Counts the jobs of the process.
        server: The index of the job server.
        connection: The number of the connection that assigned it.
        due: When it times out, by the monotonic clock; infinite if it has no timeout.
        exception_ends_job: Whether WORK_EXCEPTION ends it. If not, WORK_FAIL must follow.
        handle: The handle.
    """

    number: int
    server: int
    connection: int
    due: float
    exception_ends_job: bool
    handle: bytes


class Board:
    """
    The shared memory. The process writes it; the worker reads it.

    The process may be killed between any two instructions. A job is therefore valid only while its last byte is
    written, which is a single byte.

    Args:
        descriptor: The file from :func:`create_board_file`.
        servers: The number of job servers.
    """

    def __init__(self, descriptor: int, servers: int) -> None:
        self._memory = mmap.mmap(descriptor, _size(servers))

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()

    # The job.

    def set_job(self, job: BoardJob) -> None:
        """Show a job. One whose handle is longer than 255 bytes is not shown, and returned if the process dies."""
        memory = self._memory
        memory[_IS_BUSY] = 0
        size = len(job.handle)
        if size <= _MAX_HANDLE:
            _JOB.pack_into(
                memory,
                _JOB_AT,
                job.number,
                job.server,
                job.connection,
                job.due,
                job.exception_ends_job,
                size,
                job.handle,
            )
            memory[_IS_BUSY] = 1

    def clear_job(self) -> None:
        """Show that there is no job."""
        self._memory[_IS_BUSY] = 0

    def read_job(self) -> BoardJob | None:
        """Return the job, if there is one."""
        if not self._memory[_IS_BUSY]:
            return None
        number, server, connection, due, ends, size, handle = _JOB.unpack_from(self._memory, _JOB_AT)
        return BoardJob(number, server, connection, due, bool(ends), handle[:size])

    @property
    def due(self) -> float:
        """When the job times out; infinite if there is none."""
        job = self.read_job()
        return math.inf if job is None else job.due

    # Job servers, by index.

    def set_sending(self, server: int, before: int, after: int) -> None:
        """Show that bytes are being sent; packets end where these numbers of bytes have been sent in total."""
        start = _SERVERS_AT + server * _SERVER_SIZE
        _BOUNDARIES.pack_into(self._memory, start + _BOUNDARIES_AT, before, after)
        self._memory[start] = 1

    def clear_sending(self, server: int) -> None:
        """Show that everything has been sent."""
        self._memory[_SERVERS_AT + server * _SERVER_SIZE] = 0

    def read_sending(self, server: int) -> tuple[int, ...] | None:
        """Return the numbers of sent bytes at which packets end, or ``None`` if everything has been sent."""
        start = _SERVERS_AT + server * _SERVER_SIZE
        return _BOUNDARIES.unpack_from(self._memory, start + _BOUNDARIES_AT) if self._memory[start] else None

    def set_counters(self, server: int, counters: WorkerCounters) -> None:
        """Show the counters of a job server."""
        _COUNTERS.pack_into(
            self._memory,
            _SERVERS_AT + server * _SERVER_SIZE + _COUNTERS_AT,
            counters.taken,
            counters.completed,
            counters.failed,
            counters.raised,
            counters.lost,
            counters.refused,
        )

    def read_counters(self, server: int) -> tuple[int, ...]:
        """Return taken, completed, failed, raised, lost and refused."""
        return _COUNTERS.unpack_from(self._memory, _SERVERS_AT + server * _SERVER_SIZE + _COUNTERS_AT)


def create_board_file(servers: int) -> int:
    """Return the descriptor of a file that has no name, of the size of a board."""
    with tempfile.TemporaryFile(buffering=0) as file:
        os.ftruncate(file.fileno(), _size(servers))
        return os.dup(file.fileno())


def _size(servers: int) -> int:
    return _SERVERS_AT + servers * _SERVER_SIZE
