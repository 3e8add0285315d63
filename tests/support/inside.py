"""Access to internals of clients, workers, admin clients and job servers; the only helper that knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from geartrain import Admin, Client, JobServer, Worker
from geartrain.address import Address
from geartrain.admin.session import AdminSession
from geartrain.client.channel import ServerChannel
from geartrain.client.dispatcher import Dispatcher
from geartrain.client.job import Job, submission_of
from geartrain.client.session import ClientSession
from geartrain.client.submission import Submission
from geartrain.client.submission_details import SubmissionDetails
from geartrain.client.updates import UpdateStream
from geartrain.client.worker_counts import WorkerCounts
from geartrain.connection import Connection
from geartrain.protocol.client import ClientProtocol
from geartrain.server.peer_connections import ServerState
from geartrain.worker.job import WorkerJob
from geartrain.worker.run import WorkerRun
from geartrain.worker.running_job import running_job_of
from geartrain.worker.session import WorkerSession

__all__ = [
    "accepted_handles",
    "channel_of",
    "channels_of",
    "connect_attempt",
    "details_of",
    "dispatcher_of",
    "handshakes_of",
    "has_overdue_probes",
    "has_recent_jobs",
    "heartbeat_count",
    "held_updates",
    "is_full",
    "is_pausing",
    "mark_dead",
    "max_outstanding_of",
    "pause_count",
    "protocol_of",
    "queued_queries",
    "rounds_missed",
    "session_of",
    "session_of_admin",
    "session_of_client",
    "session_of_worker",
    "session_of_worker_job",
    "set_worker_counts",
    "state_of",
    "submission_of",
    "transport_of",
    "unassigned",
]


def dispatcher_of(client: Client) -> Dispatcher:
    """Return the dispatcher of a client that has been used."""
    dispatcher = client._dispatcher
    assert dispatcher is not None, "the client has not been used"
    return dispatcher


def channels_of(client: Client) -> tuple[ServerChannel, ...]:
    """Return the channels of a client, none if it has not been used."""
    return client._dispatcher.pool.channels if client._dispatcher is not None else ()


def session_of_client(client: Client) -> ClientSession:
    """Return the connection of a client to its first job server."""
    session = channels_of(client)[0].session
    assert session is not None, "the client is not connected"
    return session


def session_of_admin(admin: Admin) -> AdminSession:
    """Return the connection of an admin client."""
    session = admin._session
    assert session is not None, "the admin client is not connected"
    return session


def channel_of(job: Job | Submission) -> ServerChannel:
    """Return the channel to the job server that a job is assigned to."""
    submission = submission_of(job) if isinstance(job, Job) else job
    assert isinstance(submission.holder, ServerChannel), "the job is not assigned to a job server"
    return submission.holder


def session_of(job: Job) -> ClientSession:
    """Return the current connection to the job server that a job is assigned to."""
    session = channel_of(job).session
    assert session is not None, "the job server is not connected"
    return session


def details_of(job: Job) -> SubmissionDetails:
    """Return the details of a job that has any."""
    details = submission_of(job).details
    assert details is not None, "the job has no details"
    return details


def rounds_missed(job: Job) -> int:
    """Return how many times the current try of a job has found no job server."""
    details = submission_of(job).details
    return 0 if details is None else details._rounds_missed


def unassigned(client: Client) -> int:
    """Return the number of jobs that are not assigned to a job server."""
    return len(dispatcher_of(client)._unassigned)


def state_of(server: JobServer) -> ServerState:
    """Return the broker and connections of a running job server."""
    assert server._state is not None, "the job server is not running"
    return server._state


def handshakes_of(server: JobServer) -> int:
    """Return the number of TLS handshakes in progress."""
    assert server._tls_acceptor is not None, "the job server has no TLS"
    return len(server._tls_acceptor._tasks)


def transport_of(connection: Connection) -> Any:
    """Return the asyncio transport of a connection, or ``None`` if it is closed."""
    return connection._transport


def heartbeat_count(session: ClientSession) -> int:
    """Return how many times the heartbeat timer has run."""
    return session._heartbeat_count


def pause_count(session: ClientSession) -> int:
    """Return the number of consumers that currently pause reading."""
    return session._pause_count


def held_updates(updates: UpdateStream) -> int:
    """Return the number of updates that the consumer has not taken yet."""
    return len(updates._waiting)


def is_pausing(updates: UpdateStream) -> bool:
    """Whether the iterator has paused reading from the connection."""
    return updates._paused is not None


def accepted_handles(session: ClientSession) -> list[bytes]:
    """Return the handles of all jobs that are accepted and have not ended."""
    return list(session.protocol._results.jobs)


def has_recent_jobs(session: ClientSession) -> bool:
    """Whether jobs are remembered as active in the current interval."""
    return bool(session.protocol._results.status_probes._stale._current)


def has_overdue_probes(session: ClientSession) -> bool:
    """Whether stale jobs wait for a probe although no probe is open."""
    results = session.protocol._results
    probes = results.status_probes
    return not probes._open and any(handle in results.jobs for handle in probes._stale._to_probe)


def protocol_of(channel: ServerChannel) -> ClientProtocol | None:
    """Return the protocol object of the channel's last connection."""
    return channel._protocol


def is_full(channel: ServerChannel) -> bool:
    """Whether the channel has as many jobs outstanding as allowed."""
    return channel._is_full


def max_outstanding_of(channel: ServerChannel) -> int | None:
    """Return how many jobs the channel may have outstanding."""
    return channel._max_outstanding


def mark_dead(channel: ServerChannel) -> None:
    """Mark a job server as dead, as a failed connection does."""
    channel._mark_dead()


def queued_queries(channel: ServerChannel) -> int:
    """Return the number of queries that wait for a connection."""
    return len(channel._queries)


def set_worker_counts(counts: WorkerCounts, address: Address, received_at: float, workers: Mapping[str, int]) -> None:
    """Store the worker counts of a job server as received at a loop time."""
    counts._counts[address] = received_at, workers


def connect_attempt(channel: ServerChannel) -> asyncio.Task[None] | None:
    """Return the running attempt to connect, if there is one."""
    return channel._connector.attempt


def session_of_worker(worker: Worker) -> WorkerSession:
    """Return the connection of a running worker to its first job server."""
    assert worker._active_run is not None, "the worker is not running"
    assert isinstance(worker._active_run, WorkerRun), "its connections are in other processes"
    session = worker._active_run.channels[0].session
    assert session is not None, "the worker is not connected"
    return session


def session_of_worker_job(job: WorkerJob) -> WorkerSession:
    """Return the connection that assigned a job to a worker in this process."""
    return running_job_of(job).session
