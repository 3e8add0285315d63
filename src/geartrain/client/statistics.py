"""The public statistics of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from geartrain.client.channel import ServerChannel

__all__ = ["ServerStatistics", "Statistics", "read_statistics"]


class ServerStatistics(NamedTuple):
    """
    What a client has done with one job server. A job that is tried again counts once per try.

    ``submitted`` is always the sum of ``completed``, ``failed``, ``cancelled`` and ``outstanding``.

    Attributes:
        state: ``"connected"``, ``"connecting"``, ``"dead"`` or ``"idle"``: not connected and not needed yet.
        connected_since: When the present connection was made, in UTC, or ``None``.
        waiting: Jobs that are held back in the client: no connection yet, or ``max_outstanding`` reached.
        outstanding: Jobs that were sent and have not ended.
        submitted: Jobs that were sent.
        completed: Of these, those that succeeded; background jobs when they were accepted.
        failed: Of these, those that failed, were lost or timed out.
        cancelled: Of these, those that the application cancelled.
        retried: Of those that failed, those that were tried again.
        late: Packets that the present connection brought for jobs that had been discarded.
        bytes_received: Over all connections.
        bytes_sent: Over all connections.
    """

    state: str
    connected_since: datetime | None
    waiting: int
    outstanding: int
    submitted: int
    completed: int
    failed: int
    cancelled: int
    retried: int
    late: int
    bytes_received: int
    bytes_sent: int


class Statistics(NamedTuple):
    """
    What a client has done, by job server; servers removed from the list disappear once they are closed.

    Attributes:
        servers: By address.
    """

    servers: Mapping[str, ServerStatistics]

    @property
    def outstanding(self) -> int:
        """Jobs that were sent to any server and have not ended."""
        return sum(server.outstanding for server in self.servers.values())

    @property
    def submitted(self) -> int:
        """Jobs that were sent to any server."""
        return sum(server.submitted for server in self.servers.values())

    @property
    def completed(self) -> int:
        """Jobs that succeeded."""
        return sum(server.completed for server in self.servers.values())

    @property
    def failed(self) -> int:
        """Tries that failed, were lost or timed out."""
        return sum(server.failed for server in self.servers.values())

    @property
    def cancelled(self) -> int:
        """Jobs that the application cancelled after they had been sent."""
        return sum(server.cancelled for server in self.servers.values())

    @property
    def retried(self) -> int:
        """Tries after the first ones."""
        return sum(server.retried for server in self.servers.values())


def read_statistics(channel: ServerChannel) -> ServerStatistics:
    """Read the counters of a channel."""
    from datetime import UTC, datetime  # few need it, and it takes a while to load

    session, counters = channel.session, channel.counters
    return ServerStatistics(
        state=channel.state,
        connected_since=datetime.fromtimestamp(session.connected_since, UTC) if session is not None else None,
        waiting=channel.waiting,
        outstanding=channel.outstanding,
        submitted=counters.submitted,
        completed=counters.completed,
        failed=counters.failed,
        cancelled=counters.cancelled,
        retried=counters.retried,
        late=session.protocol.late_packets if session is not None else 0,
        bytes_received=channel.bytes_received,
        bytes_sent=channel.bytes_sent,
    )
