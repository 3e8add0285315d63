"""Submits jobs, moves them between job servers, retries them, and knows when all have ended."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING

from geartrain.client.job import Job, create_job, submission_of
from geartrain.client.pool import ServerPool
from geartrain.client.runtime import ClientRuntime
from geartrain.client.server_counters import ServerCounters
from geartrain.client.submission import Submission
from geartrain.client.submission_batch import MAX_BATCHED_WORKLOAD, SubmissionBatch
from geartrain.client.task import Task
from geartrain.client.timeouts import JobTimeouts
from geartrain.client.worker_counts import WorkerCounts
from geartrain.errors import NoServersError, NoWorkersError

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.client.channel import ServerChannel
    from geartrain.client.config import ClientConfig, OnSubmit
    from geartrain.client.task_spec import TaskSpec
    from geartrain.loop_binding import LoopBinding

__all__ = ["Dispatcher"]


class Dispatcher:
    """
    A client's jobs and job servers in one event loop.

    Args:
        binding: The event loop, its thread and its process.
        config: The client's options.
        servers: The configured job servers.

    Attributes:
        runtime: What the parts of the client share.
        timeouts: The deadlines of its jobs.
        pool: Its job servers.
        worker_counts: The number of workers for each function.
    """

    def __init__(self, binding: LoopBinding, config: ClientConfig, servers: Iterable[Address]) -> None:
        self.name: str = ""  # as a holder of submissions, beside the channels
        self.counters: ServerCounters = ServerCounters()  # stay 0: nothing is sent from here
        self.needs_advance: bool = False
        self.runtime: ClientRuntime = ClientRuntime(binding, config, self.check_drained)
        self.timeouts: JobTimeouts = JobTimeouts(binding.loop)
        self.pool: ServerPool = ServerPool(servers, self.runtime, self)
        self.worker_counts: WorkerCounts = WorkerCounts(self.runtime, self.pool.create_admin)
        # Submissions at no job server: they wait out a back-off, or for a count of workers.
        self._unassigned: dict[Submission, None] = {}
        # Those that require a worker, while the job server is asked for its counts.
        self._uncounted: dict[ServerChannel, list[Submission]] = {}
        self._drain_waiters: dict[asyncio.Future[None], None] = {}
        self._max_workload = config.max_packet_size
        self._max_batched = min(MAX_BATCHED_WORKLOAD, self._max_workload)
        self._has_prefix = bool(config.prefix)
        self._on_submit = config.on_submit

    # Submitting.

    def start(self, submission: Submission) -> None:
        """
        Submit a new submission.

        Raises:
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
        """
        spec = submission.spec
        if len(submission.workload) > self._max_workload:
            self.runtime.config.check_task(spec.function, submission.workload)  # raises
        if self._has_prefix:
            self.runtime.submit_prefixes[spec.function]  # raises if it is too long
        if self._on_submit is not None:
            if not self._prepare(submission, self._on_submit):
                return
            spec = submission.spec
        options = spec.options
        if options.timeout is not None:
            self.timeouts.start(submission, options.timeout)
        channel = self.pool.single
        if channel is not None and not options.require_worker:
            channel.submit(submission)
        else:
            self.dispatch(submission)

    def submit_job(self, spec: TaskSpec, workload: bytes, task: Task | None = None) -> Job:
        """
        Submit a job, and return its future.

        Raises:
            ValueError: If the function is too long with the client's prefix, or the workload for ``max_packet_size``.
        """
        job = create_job(spec, workload, self, task)
        submission = submission_of(job)
        if task is not None and self._on_submit is not None:
            submission.get_details().original = task
        self.start(submission)
        return job

    def submit_batch(self, spec: TaskSpec, workloads: Sequence[bytes]) -> SubmissionBatch | None:
        """Submit jobs together if all of them can be sent now to the only job server; else return ``None``."""
        channel = self.pool.single
        if (
            channel is None
            or not spec.is_batchable
            or self._on_submit is not None
            or max(map(len, workloads)) > self._max_batched
        ):
            return None
        return channel.submit_batch(spec, workloads)

    # Submissions at no job server (SubmissionHolder).

    @property
    def scheduler(self) -> Dispatcher:
        """The dispatcher itself."""
        return self

    @property
    def read_control(self) -> None:
        """There is no connection."""
        return

    def advance(self) -> None:
        """Do nothing: what waits here waits for a time or a count of workers."""

    # Assigning submissions to job servers (SubmissionScheduler).

    def dispatch(self, submission: Submission) -> None:
        """Assign a submission to a job server, or end it if there is none."""
        if self._on_submit is not None and not self._prepare(submission, self._on_submit):
            return
        tried = submission.details.errors if submission.details is not None else None
        try:
            channel = self.pool.choose(submission.task, tried or ())
        except Exception as error:  # noqa: BLE001  # raised by the user's own function: it ends the job
            submission.fail(error)
            return
        if channel is None:
            submission.on_unreachable(_no_server_error(submission))
        elif submission.spec.options.require_worker:
            self._require_worker(submission, channel)
        else:
            channel.submit(submission)

    def _prepare(self, submission: Submission, on_submit: OnSubmit) -> bool:
        """Pass the task of a new try to ``on_submit``; return whether the job goes on."""
        try:
            submission.prepare_try(on_submit, self.runtime.config)
        except StopIteration as error:  # from a next() without a result; a future does not accept it
            submission.fail(RuntimeError(f"on_submit raised {error!r}"))
            return False
        except Exception as error:  # noqa: BLE001  # raised by the user's own function: it ends the job
            submission.fail(error)
            return False
        return True

    def reroute(self, submission: Submission, server: str, error: Exception) -> None:
        """Assign a submission that was not sent to another job server. That costs no retry."""
        submission.get_details().add_error(server, error)
        self.dispatch(submission)

    def dispatch_later(self, submission: Submission, seconds: float) -> None:
        """Assign a submission to a job server after a back-off."""
        seconds = math.ceil(seconds * 1000) / 1000  # so that many jobs share few durations
        self._unassigned[submission] = None
        submission.get_details().back_off = seconds
        self.timeouts.start_back_off(submission, seconds)

    def end_back_off(self, submission: Submission) -> None:
        """Assign a submission whose back-off is over."""
        self._unassigned.pop(submission, None)
        submission.get_details().back_off = None
        self.dispatch(submission)

    def forget(self, submission: Submission) -> bool:
        """Take back a submission that is at no job server. It has not been sent."""
        self._unassigned.pop(submission, None)
        details = submission.details
        if details is not None and details.back_off is not None:
            self.timeouts.stop_back_off(submission, details.back_off)
            details.back_off = None
        return False

    # Submissions that require a worker.

    def _require_worker(self, submission: Submission, channel: ServerChannel) -> None:
        """Submit to a job server that has a worker for the function, else try the next one."""
        function = submission.spec.function
        count = self.worker_counts.cached(channel.address, self.runtime.function_name(function))
        if count is None:
            self._wait_for_counts(submission, channel)
        elif count:
            channel.submit(submission)
        else:
            self.reroute(
                submission, channel.name, NoWorkersError(f"no worker is registered for {function}", function=function)
            )

    def _wait_for_counts(self, submission: Submission, channel: ServerChannel) -> None:
        self._unassigned[submission] = None
        if channel not in self._uncounted:
            self._uncounted[channel] = []
            on_counts = functools.partial(self._on_counts, channel)
            self.worker_counts.refresh(channel.address).add_done_callback(on_counts, context=Context())
        self._uncounted[channel].append(submission)

    def _on_counts(self, channel: ServerChannel, refresh: asyncio.Task[Mapping[str, int]]) -> None:
        has_failed = refresh.cancelled() or refresh.exception() is not None
        self.runtime.slices.add(self._assign_counted(self._uncounted.pop(channel), channel, has_failed=has_failed))

    def _assign_counted(
        self, submissions: list[Submission], channel: ServerChannel, *, has_failed: bool
    ) -> Iterator[None]:
        for submission in submissions:
            if submission not in self._unassigned:
                continue  # it has ended in the meantime
            del self._unassigned[submission]
            if has_failed:
                channel.submit(submission)  # the channel finds out what is wrong there, and reroutes it
            else:
                self._require_worker(submission, channel)
            yield

    # Notifications from the channels (ChannelListener).

    def on_server_failed(self) -> None:
        """Consider the health of job servers in the next choices."""
        self.pool.on_server_failed()

    def on_channel_idle(self, channel: ServerChannel) -> None:
        """Close a retiring channel that has nothing left to do."""
        self.pool.remove(channel)

    # Draining and closing.

    @property
    def is_unused(self) -> bool:
        """Whether it holds no connection and no job, so that nothing is lost by dropping it."""
        return self.is_idle and all(channel.state in ("idle", "dead") for channel in self.pool.channels)

    @property
    def is_idle(self) -> bool:
        """Whether no job is outstanding."""
        return (
            not self._unassigned
            and self.runtime.slices.is_idle
            and not any(channel.outstanding or channel.waiting for channel in self.pool.channels)
        )

    @property
    def is_draining(self) -> bool:
        """Whether anyone waits until no job is outstanding."""
        return bool(self._drain_waiters)

    async def drain(self) -> None:
        """Wait until no job is outstanding."""
        # While a job moves from one channel to another it is in none, so check again.
        while not self.is_idle:
            drained: asyncio.Future[None] = self.runtime.loop.create_future()
            self._drain_waiters[drained] = None
            for channel in self.pool.channels:
                channel.request_advance()
            try:
                await drained
            finally:
                del self._drain_waiters[drained]

    def check_drained(self) -> None:
        """Notify those who wait until no job is outstanding, if that is so."""
        if self._drain_waiters and self.is_idle:
            for drained in self._drain_waiters:
                if not drained.done():
                    drained.set_result(None)

    def disconnect(self) -> None:
        """Close every connection and end every job, now; ``runtime.wait_closed`` waits for what remains to be done."""
        # Jobs are ended in slices, and must not be retried before their turn.
        unassigned, self._unassigned = self._unassigned, {}
        self.timeouts.stop_all_tries()
        self.runtime.disconnect(unassigned)
        self.pool.disconnect()
        self.runtime.abort()


def _no_server_error(submission: Submission) -> NoServersError | NoWorkersError:
    """Return the error that says why no job server could be reached."""
    errors, function = submission.get_details().errors or {}, submission.spec.function
    if errors and all(isinstance(error, NoWorkersError) for error in errors.values()):
        return NoWorkersError(f"no worker is registered for {function} at {', '.join(errors)}", function=function)
    reasons = "; ".join(f"{server}: {error}" for server, error in errors.items()) or "none is configured"
    return NoServersError(f"no job server could be reached for {function}: {reasons}", errors=errors)
