"""Sends submissions over a connection, with function, unique and time before the workload."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from geartrain.protocol.client import MAX_DEFERRED_WORKLOAD

if TYPE_CHECKING:
    from geartrain.client.runtime import ClientRuntime
    from geartrain.client.session import ClientSession
    from geartrain.client.submission import Submission
    from geartrain.client.submission_batch import SubmissionBatch
    from geartrain.client.task_spec import TaskSpec

__all__ = ["generate_uniques_for", "send_batch", "send_submission"]

# Jobs in a chunk of a batch; the job server works on one chunk while the next is encoded.
_CHUNK: Final = 1000
_WORTH_A_WRITE: Final = 250  # jobs; with fewer, client and job server wake each other up too often


def send_submission(submission: Submission, session: ClientSession, runtime: ClientRuntime) -> None:
    """Send a submission of any kind; ``ServerChannel.submit`` inlines the simple case."""
    spec, protocol = submission.spec, session.protocol
    options = spec.options
    if spec.is_anonymous and submission.unique is None:
        submission.unique = next(runtime.uniques)
    if spec.is_anonymous and options.run_at is None:
        _send_anonymous(submission, session, runtime)
    elif spec.unique or options.run_at:
        unique = spec.unique or submission.unique or b""
        arguments = (unique,) if options.run_at is None else (unique, options.run_at)
        prefix = runtime.name_prefixes[spec.function] + b"\0".join((*arguments, b""))
        protocol.send_submission(submission, options.packet_type, prefix, submission.workload)
    else:
        prefix = runtime.submit_prefixes[spec.function]
        protocol.submit_deferred(submission, options.packet_type, prefix, submission.workload)


def _send_anonymous(submission: Submission, session: ClientSession, runtime: ClientRuntime) -> None:
    """Send a generated unique together with the workload, so that many submissions in a row share their prefix."""
    unique, workload = submission.unique, submission.workload
    assert unique is not None, "it has been generated"
    packet_type = submission.spec.options.packet_type
    prefix = runtime.name_prefixes[submission.spec.function]
    if len(unique) + 1 + len(workload) <= MAX_DEFERRED_WORKLOAD:
        session.protocol.submit_deferred(submission, packet_type, prefix, b"%b\0%b" % (unique, workload))
    else:
        session.protocol.send_submission(submission, packet_type, b"%b%b\0" % (prefix, unique), workload)


def generate_uniques_for(spec: TaskSpec, count: int, runtime: ClientRuntime) -> list[bytes] | None:
    """Return a unique for each job of a batch, or ``None`` if its jobs are sent without."""
    return list(islice(runtime.uniques, count)) if spec.is_anonymous else None


def send_batch(
    batch: SubmissionBatch,
    spec: TaskSpec,
    workloads: Sequence[bytes],
    uniques: Sequence[bytes] | None,
    session: ClientSession,
    runtime: ClientRuntime,
) -> None:
    """
    Send the jobs of a batch.

    Raises:
        ValueError: If the function is too long with the client's prefix; nothing is sent then.
    """
    if uniques is None:
        prefix, bodies = runtime.submit_prefixes[spec.function], workloads
    else:
        prefix = runtime.name_prefixes[spec.function]
        bodies = list(map(b"\0".join, zip(uniques, workloads, strict=True)))
    for begin in range(0, len(bodies), _CHUNK):
        chunk = bodies[begin : begin + _CHUNK]
        session.protocol.send_batch(batch, spec.options.packet_type, prefix, chunk)
        if len(chunk) >= _WORTH_A_WRITE:
            session.connection.flush()
