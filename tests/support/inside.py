"""What tests look at inside a client: the one place in which they know how its parts hang together."""

from __future__ import annotations

from geartrain import Client, JobServer
from geartrain.client.channel import ServerChannel
from geartrain.client.dispatcher import Dispatcher
from geartrain.client.job import Job, submission_of
from geartrain.client.session import ClientSession
from geartrain.client.submission import Submission
from geartrain.client.submission_details import SubmissionDetails
from geartrain.server.peer_connections import ServerState

__all__ = [
    "channel_of",
    "channels_of",
    "details_of",
    "dispatcher_of",
    "rounds_missed",
    "session_of",
    "session_of_client",
    "state_of",
    "submission_of",
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
