"""Checks whether a simulated world kept the promises of the library."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from geartrain import (
    ClientDisconnectedError,
    ConnectionLostError,
    GearmanError,
    Job,
    JobExceptionError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    JobTooLargeError,
    NoServersError,
    ServerError,
)
from geartrain.client.channel import ServerChannel
from geartrain.client.submission import Submission
from geartrain.client.submission_batch import SubmissionBatch
from tests.simulation.applications import JobRecord, OopsError
from tests.simulation.faults import HEARTBEAT
from tests.simulation.outcomes import REFUSED, TOO_LARGE, WORKLOAD_REFUSED, fate_of, is_run
from tests.support.inside import (
    accepted_handles,
    channels_of,
    connect_attempt,
    has_overdue_probes,
    is_full,
    max_outstanding_of,
    pause_count,
    protocol_of,
    submission_of,
    transport_of,
)
from tests.support.recording_handlers import pending_handlers

if TYPE_CHECKING:
    from tests.simulation.world import World

CONNECT_TIMEOUT = 2.0
TICK = 0.5  # seconds between two checks

# The client requests the status of a job that has been silent for one to one and a half heartbeats.
_LONGEST_SILENCE = 1.5 * HEARTBEAT + 1.0

# The error of a job whose last try had this outcome.
_ERRORS: Final[Mapping[str, type[GearmanError]]] = {
    REFUSED: ServerError,
    WORKLOAD_REFUSED: ServerError,
    "forgotten": JobLostError,
    "WORK_FAIL": JobFailedError,
    "WORK_EXCEPTION": JobExceptionError,
    TOO_LARGE: JobTooLargeError,
}
_CODES: Final[Mapping[str, str]] = {"QUEUE_ERROR": REFUSED, "ARGUMENT_TOO_LARGE": WORKLOAD_REFUSED}


class Judge:
    """Checks a world periodically, and once more at its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._connecting: dict[asyncio.Task[None], float] = {}  # when each was first seen
        self._hindered_at: dict[Any, float] = {}  # when a client's connection was last slow or stopped
        self._paused_at: dict[Any, float] = {}  # when a consumer of updates last paused it

    # Periodic checks.

    async def audit(self) -> None:
        """Check periodically that nothing waits for something that will not happen."""
        while True:
            await asyncio.sleep(TICK)
            broken = self.world.traffic.broken + self.world.network.broken
            assert not broken, f"broken: {broken}"
            for user in self.world.users:
                for channel in channels_of(user.client):
                    self._audit_channel(channel)
                    self._audit_silence(channel)
            for record in self.world.records:
                if record.job is not None and not record.job.done():
                    self._audit_job(record, record.job)

    def _audit_channel(self, channel: ServerChannel) -> None:
        session, protocol, name = channel.session, protocol_of(channel), channel.name
        has_room = session is not None and session.connection.writable and not is_full(channel)
        assert not (channel.waiting and has_room), f"{channel.waiting} jobs wait at {name} although there is room"
        handlers = pending_handlers(protocol) if protocol is not None else []
        pending = sum(isinstance(handler, Submission | SubmissionBatch) for handler in handlers)
        assert channel.outstanding == pending, (
            f"{name} counts {channel.outstanding} outstanding jobs, but has {pending}"
        )
        bound = max_outstanding_of(channel)
        assert bound is None or pending <= bound, f"{pending} jobs are outstanding at {name}, but the limit is {bound}"
        retired = channel.is_retiring and channel.is_idle
        assert not retired, f"{name} was removed and is idle, but is still there"
        if (attempt := connect_attempt(channel)) is not None:
            taken = self.world.loop.time() - self._connecting.setdefault(attempt, self.world.loop.time())
            assert taken <= CONNECT_TIMEOUT, f"connecting to {name} has taken {taken} s"

    def _audit_silence(self, channel: ServerChannel) -> None:
        """Check that silent jobs are probed, and that jobs which their server has forgotten are detected in time."""
        session, now = channel.session, self.world.loop.time()
        if session is None:
            return
        wire: Any = transport_of(session.connection)
        if pause_count(session):
            self._paused_at[wire] = now
        if wire is None or wire.is_hindered or pause_count(session):
            self._hindered_at[wire] = now
            return
        assert not has_overdue_probes(session), f"silent jobs of {channel.name} are overdue, but not probed"
        patience = 3.5 * HEARTBEAT if self.world.faults else _LONGEST_SILENCE
        for handle in accepted_handles(session):
            since = self.world.forgotten.get((wire, handle), math.inf)
            waited = now - max(since, self._hindered_at.get(wire, 0.0))
            assert waited < patience, (
                f"{handle!r} of {channel.name} was forgotten, but the client still waits for it after {waited} s"
            )

    def _audit_job(self, record: JobRecord, job: Job) -> None:
        """Check that it does not wait on a dead wire, or for longer than the timeout of its try."""
        submission = submission_of(job)
        channel = submission.holder
        if not isinstance(channel, ServerChannel) or channel.session is None or submission.ticket is None:
            return
        now, traffic = self.world.loop.time(), self.world.traffic
        submitted_at = traffic.submitted_at.get(record.name, math.inf)
        wire: Any = transport_of(channel.session.connection)
        silent_since = self.world.silent_since.get(wire)
        if silent_since is not None:
            waited = now - max(silent_since, submitted_at, record.called_back_at, self._paused_at.get(wire, 0.0))
            assert waited < 3.5 * HEARTBEAT, f"{record.name} has waited {waited} s on a dead wire to {channel.name}"
        alone = self.world.allowed[record.name] == record.task.retry_count + 1  # not merged with another
        if alone and record.task.try_timeout is not None and traffic.submitted[record.name] == job.tries:
            waited = now - submitted_at
            assert waited <= record.task.try_timeout + 0.01, f"a try of {record.name} has taken {waited} s"

    # Final checks.

    def judge(self) -> None:
        """Check that every job ended correctly, and that no timers or connections are left."""
        world = self.world
        unhandled = [context for context in world.loop.unhandled if not isinstance(context.get("exception"), OopsError)]
        assert not unhandled, f"unhandled: {unhandled}"
        broken = world.traffic.broken + world.network.broken
        assert not broken, f"broken: {broken}"
        assert not world.loop.left(), f"timers are left: {world.loop.left()}"
        assert not world.network.wires, f"connections are left: {[str(wire) for wire in world.network.wires]}"
        for name, count in world.traffic.submitted.items():
            assert count <= world.allowed[name], f"{name} was submitted {count} times, not {world.allowed[name]}"
        for record in world.records:
            self._judge_job(record)
        self._judge_uniques()
        if not world.faults:
            self._judge_calm()

    def _judge_job(self, record: JobRecord) -> None:
        job, name = record.job, record.name
        assert job is not None
        assert job.done(), f"{name} has not ended"
        self._judge_callbacks(record)
        if job.cancelled():
            assert record.cancelled, f"{name} was cancelled, but not by the application"
            return
        error = job.exception()
        assert (error is None) == (record.callbacks[-1] == "complete")
        if isinstance(error, NoServersError):
            merged = sum(other.name == name for other in self.world.records) > 1
            sent = self.world.traffic.submitted[name] or self.world.ran[name]
            assert merged or not sent, f"{name} was reported as never sent, but was sent"
        if error is not None:
            self._judge_error(record, error)
        if not record.task.background or error is not None:
            self.judge_cause(name, error)

    def _judge_uniques(self) -> None:
        """Check that each background job without a unique gets one that no other job has, the same in all its tries."""
        names = Counter(record.name for record in self.world.records)
        before: set[bytes] = set()
        for record in self.world.records:
            if names[record.name] == 1 and record.task.background and record.task.unique is None:
                uniques = self.world.traffic.uniques.get(record.name, set())
                assert len(uniques) <= 1, f"{record.name} was submitted with several uniques: {uniques}"
                assert b"" not in uniques, f"{record.name} was submitted without a unique"
                assert uniques.isdisjoint(before), f"{record.name} has the unique of another job: {uniques}"
                before |= uniques

    def _judge_callbacks(self, record: JobRecord) -> None:
        """Check that its callbacks ran in order: each try in turn, and a single end last."""
        retries, created = 0, False
        for what in record.callbacks[:-1]:
            if what.startswith("retry"):
                retries, created = retries + 1, False
                assert what == f"retry {retries}", (
                    f"{record.name} received its retries out of order: {record.callbacks}"
                )
            else:
                assert created == (what != "created"), (
                    f"{record.name} received callbacks out of order: {record.callbacks}"
                )
                created = True
        assert record.callbacks[-1] in ("complete", "fail"), (
            f"the last callback of {record.name} was not its end: {record.callbacks}"
        )
        assert created or record.callbacks[-1] == "fail", (
            f"{record.name} completed before it had a handle: {record.callbacks}"
        )

    def _judge_error(self, record: JobRecord, error: BaseException) -> None:
        if isinstance(error, JobTimeoutError):
            assert record.task.timeout is not None or record.task.try_timeout is not None
        elif isinstance(error, ClientDisconnectedError):
            assert self.world.disconnects

    def judge_cause(self, name: str, error: BaseException | None) -> None:
        """Check that the error of a job, ``None`` if it has a result, has a cause in what happened to it."""
        world = self.world
        fates = world.traffic.fates.get(name, [])
        fate = fate_of(world.outcomes[name], world.sizes)
        if error is None:
            assert fate == "WORK_COMPLETE", f"{name} succeeded, but had to end with {fate}"
            return
        world.occurred[f"ends with {type(error).__name__}"] += 1
        if isinstance(error, JobFailedError | JobExceptionError | JobTooLargeError):
            assert _ERRORS.get(fate) is type(error), f"{name} ended with {error!r}, but had to end with {fate}"
        elif isinstance(error, ServerError) and error.code in _CODES:
            assert _CODES[error.code] in fates, f"{name} ended with {error!r}, but was not refused: {fates}"
        elif isinstance(error, JobLostError):
            assert world.forgotten_names[name], f"{name} ended with {error!r}, but no server has forgotten it"
            assert "forgotten" in fates, (
                f"{name} ended with {error!r}, but the client never requested its status: {fates}"
            )
        elif not isinstance(error, JobTimeoutError | ClientDisconnectedError):
            assert isinstance(error, ConnectionLostError | NoServersError | ServerError), f"{name} ended with {error!r}"
            assert world.faults, f"without a fault {name} ended with {error!r}"

    def judge_fates(
        self, name: str, retry_count: int, error: BaseException | None, *, retries: int | None = None
    ) -> None:
        """
        Check that a job ended as the responses to its tries require. No connection may have been lost.

        Args:
            name: The name of a job that was neither cancelled nor timed out.
            retry_count: The number of retries that it was allowed.
            error: Its error, ``None`` if it has a result.
            retries: How often ``on_retry`` was called, if that is known.
        """
        fates = self.world.traffic.fates.get(name, [])
        assert fates, f"{name} ended with {error!r}, but its server sent nothing for it"
        expected = _ERRORS.get(fates[-1])
        assert (type(error) if error is not None else None) is expected, f"{name}: {fates}, but ended with {error!r}"
        final = {"WORK_COMPLETE", "accepted", TOO_LARGE}
        assert final.isdisjoint(fates[:-1]), f"{name} was retried after its end: {fates}"
        assert fates[-1] in final or len(fates) == retry_count + 1, f"{name} has tries left: {fates}"
        possible = {fate_of(self.world.outcomes[name], self.world.sizes), REFUSED, "forgotten", "accepted"}
        assert possible.issuperset(fates), f"{name} had the fates {fates}, but only {possible} are possible"
        assert retries in (None, len(fates) - 1), f"{name} reported {retries} retries: {fates}"
        accepted = len(fates) - fates.count(REFUSED) if is_run(self.world.outcomes[name], self.world.sizes) else 0
        forgotten = fates.count("forgotten")
        ran = self.world.ran[name]
        assert accepted - forgotten <= ran <= accepted, f"{name} ran {ran} times: {fates}"

    def _judge_calm(self) -> None:
        names = Counter(record.name for record in self.world.records)
        for record in self.world.records:
            if record.cancelled or record.task.timeout or record.task.try_timeout or names[record.name] > 1:
                continue
            assert record.job is not None
            retries = sum(what.startswith("retry") for what in record.callbacks)
            self.judge_fates(record.name, record.task.retry_count, record.job.exception(), retries=retries)
