"""The interface through which a running job reports to its job server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from geartrain.errors import LocalProtocolError
from geartrain.printable import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from geartrain.protocol.packets import PacketType
    from geartrain.protocol.worker import Assignment

__all__ = ["JobReporter", "job_ended_error"]


class JobReporter(Protocol):
    """Sends the reports of one job: directly in the worker, over a pipe in one of its processes."""

    @property
    def assignment(self) -> Assignment:
        """The job as the job server assigned it."""

    @property
    def server(self) -> str:
        """The job server's address."""

    @property
    def max_packet_size(self) -> int:
        """The maximum size of a result or an update."""

    @property
    def is_lost(self) -> bool:
        """Whether the job server has given the job away, so that reports no longer arrive."""

    def send_update(self, kind: PacketType, data: bytes) -> None:
        """
        Send WORK_STATUS, WORK_DATA or WORK_WARNING, from any thread.

        Raises:
            JobTooLargeError: If it is longer than ``max_packet_size``.
            LocalProtocolError: If the job has ended.
        """

    def drain(self) -> Awaitable[None]:
        """Wait until the job server has taken most of what was sent."""


def job_ended_error(assignment: Assignment) -> LocalProtocolError:
    """Return the error for an update about a job that has ended."""
    return LocalProtocolError(f"the job {printable(assignment.handle)} of '{printable(assignment.function)}' has ended")
