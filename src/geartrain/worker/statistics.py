"""The public statistics of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from geartrain.worker.counters import WorkerCounters

__all__ = ["RunState", "WorkerServerStatistics", "WorkerStatistics", "read_statistics"]

RunState: TypeAlias = Literal["idle", "running", "stopping"]


class WorkerServerStatistics(NamedTuple):
    """
    What a worker has done for one job server.

    ``taken`` is always the sum of ``completed``, ``failed``, ``raised``, ``lost`` and ``running``.

    Attributes:
        connected_since: When the present connection was made, in UTC, or ``None``.
        taken: Jobs that were started.
        running: Of these, those that have not ended.
        completed: Those that ended with WORK_COMPLETE.
        failed: Those that ended with WORK_FAIL.
        raised: Those that ended with WORK_EXCEPTION.
        lost: Those whose outcome could not be reported: the connection was lost, the job server had taken the job back,
            or the worker was cancelled.
        refused: ERRORs that the job server sent about jobs.
    """

    connected_since: datetime | None
    taken: int
    running: int
    completed: int
    failed: int
    raised: int
    lost: int
    refused: int


class WorkerStatistics(NamedTuple):
    """
    What a worker has done since it was created.

    Attributes:
        state: As :attr:`Worker.state`.
        servers: By address.
    """

    state: RunState
    servers: Mapping[str, WorkerServerStatistics]

    @property
    def connected(self) -> int:
        """The number of connected job servers."""
        return sum(server.connected_since is not None for server in self.servers.values())

    @property
    def taken(self) -> int:
        """Jobs that were started."""
        return sum(server.taken for server in self.servers.values())

    @property
    def running(self) -> int:
        """Jobs that have not ended."""
        return sum(server.running for server in self.servers.values())

    @property
    def completed(self) -> int:
        """Jobs that ended with WORK_COMPLETE."""
        return sum(server.completed for server in self.servers.values())

    @property
    def failed(self) -> int:
        """Jobs that ended with WORK_FAIL."""
        return sum(server.failed for server in self.servers.values())

    @property
    def raised(self) -> int:
        """Jobs that ended with WORK_EXCEPTION."""
        return sum(server.raised for server in self.servers.values())

    @property
    def lost(self) -> int:
        """Jobs whose outcome could not be reported."""
        return sum(server.lost for server in self.servers.values())


def read_statistics(counters: WorkerCounters, connected_since: datetime | None) -> WorkerServerStatistics:
    """Return the statistics of one job server as they are now."""
    return WorkerServerStatistics(
        connected_since=connected_since,
        taken=counters.taken,
        running=counters.running,
        completed=counters.completed,
        failed=counters.failed,
        raised=counters.raised,
        lost=counters.lost,
        refused=counters.refused,
    )
