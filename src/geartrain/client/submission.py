"""One job from submission to its end: its state, its tries, and how it handles each packet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, ClassVar, Protocol

from geartrain.backoff import delay
from geartrain.client import job_errors
from geartrain.client.callbacks import CallbackRunner
from geartrain.client.submission_details import SubmissionDetails
from geartrain.client.submission_state import State
from geartrain.client.task import Task, join_task, spec_of
from geartrain.client.task_options import NO_CALLBACKS, list_options
from geartrain.client.task_spec import TaskSpec
from geartrain.client.updates import JobData, JobProgress, JobUpdate, JobWarning
from geartrain.handle import JobHandle
from geartrain.printable import printable
from geartrain.protocol.numbers import parse_number
from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from geartrain.client.config import ClientConfig, OnSubmit
    from geartrain.client.runtime import ClientRuntime
    from geartrain.client.server_counters import ServerCounters
    from geartrain.client.timeouts import JobTimeouts
    from geartrain.client.updates import ReadControl
    from geartrain.errors import GearmanError, NoServersError, NoWorkersError

__all__ = ["Submission", "SubmissionHolder", "SubmissionScheduler"]


class SubmissionHolder(Protocol):
    """Where a submission is: at the channel to a job server, or at the dispatcher, which assigns it to a channel."""

    name: str
    """The job server's address; empty at the dispatcher."""
    counters: ServerCounters
    needs_advance: bool
    """Whether :meth:`advance` must be called when a job ends. A plain attribute: it is read for each job."""

    @property
    def scheduler(self) -> SubmissionScheduler:
        """The dispatcher."""

    @property
    def read_control(self) -> ReadControl | None:
        """Pauses reading from the present connection, if there is one."""

    def advance(self) -> None:
        """Send what waits for room, and check whether the job server is drained."""

    def forget(self, submission: Submission) -> bool:
        """Take a submission back; return whether it had been sent."""


class SubmissionScheduler(SubmissionHolder, Protocol):
    """Decides where a submission goes next."""

    runtime: ClientRuntime
    timeouts: JobTimeouts

    def dispatch(self, submission: Submission) -> None:
        """Assign a submission to a job server, or end it if there is none."""

    def dispatch_later(self, submission: Submission, seconds: float) -> None:
        """Assign a submission to a job server after a back-off."""

    def end_back_off(self, submission: Submission) -> None:
        """Assign a submission whose back-off is over."""

    def check_drained(self) -> None:
        """Notify those who wait until no job is outstanding, if that is so."""


# Job overrides these two, since only its submission may call them.
_set_result = asyncio.Future.set_result
_set_exception = asyncio.Future.set_exception


class Submission:
    """
    One job: the protocol core reports packets to this record, which ends the caller's future.

    ``do``, ``submit``, ``add_task`` and retries all go through it. Its state follows from three fields: ``future`` is
    ``None`` once it has ended, ``holder`` is the dispatcher while it is at no job server, ``ticket`` is ``None`` until
    it is sent.

    Args:
        future: Ended when the job ends, and then released: a :class:`Job` refers to its submission, and only the
            garbage collector could free the two.
        spec: The task without its workload.
        workload: Bytes.
        scheduler: Where retries go.

    Attributes:
        holder: The channel to the job server of this try, or the dispatcher.
        ticket: Where the protocol core finds it: a number from sending until JOB_CREATED, then the handle. Set by the
            core.
        unique: A unique that was generated for it, the same for all tries.
    """

    __slots__ = ("callbacks", "details", "future", "holder", "spec", "ticket", "unique", "workload")

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED

    def __init__(
        self, future: asyncio.Future[bytes], spec: TaskSpec, workload: bytes, scheduler: SubmissionScheduler
    ) -> None:
        self.future: asyncio.Future[bytes] | None = future
        self.spec: TaskSpec = spec
        self.workload: bytes = workload
        # No slot for the scheduler, which each holder knows: many submissions may be outstanding.
        self.holder: SubmissionHolder = scheduler
        self.ticket: int | bytes | None = None
        self.unique: bytes | None = None
        self.details: SubmissionDetails | None = None
        # A separate slot, not one of the details: a job with callbacks costs a tenth less.
        self.callbacks: CallbackRunner | None = None
        if spec.callbacks:
            runtime = scheduler.runtime
            self.callbacks = CallbackRunner(spec.callbacks, runtime.loop, runtime.callbacks)

    @property
    def state(self) -> State:
        """Its stage between submission and end."""
        if self.future is None:
            return State.ENDED
        if self.holder is self.scheduler:
            return State.UNASSIGNED
        if self.ticket is None:
            return State.WAITING
        return State.CREATED if isinstance(self.ticket, bytes) else State.SENT

    @property
    def scheduler(self) -> SubmissionScheduler:
        """The dispatcher."""
        return self.holder.scheduler

    @property
    def has_ended(self) -> bool:
        """Whether its outcome is known."""
        return self.future is None

    @property
    def function(self) -> str:
        """The function's name, without the client's prefix."""
        return self.spec.function

    @property
    def task(self) -> Task:
        """The task as it was submitted, before ``on_submit``."""
        original = self.details.original if self.details is not None else None
        return join_task(self.spec, self.workload) if original is None else original

    @property
    def handle(self) -> JobHandle | None:
        """The name that the job server gave to this try, or ``None``."""
        if type(self.ticket) is not bytes:
            return None
        unique = self.spec.unique or self.unique or b""
        return JobHandle(
            self.holder.name,
            self.ticket.decode("utf-8", "surrogateescape"),
            self.spec.function,
            unique.decode("utf-8", "surrogateescape"),
        )

    @property
    def tries(self) -> int:
        """The number of tries begun."""
        return 1 if self.details is None else self.details.tries

    @property
    def status(self) -> tuple[int | float, int | float] | None:
        """Numerator and denominator of the last WORK_STATUS of this try."""
        return None if self.details is None else self.details.status

    def get_details(self) -> SubmissionDetails:
        """Return its details, created on first use."""
        if self.details is None:
            self.details = SubmissionDetails()
        return self.details

    def prepare_try(self, on_submit: OnSubmit, config: ClientConfig) -> None:
        """
        Pass the task to ``on_submit``, once for each try, and send what that returns.

        Raises:
            TypeError: If it has returned anything else than a task or ``None``.
            ValueError: If the other task cannot be sent in place of this one.
            Exception: What it has raised.
        """
        details = self.get_details()
        if details.is_prepared:
            return
        details.is_prepared = True
        details.original = original = self.task
        if self.callbacks is None:
            runtime = self.scheduler.runtime
            self.callbacks = CallbackRunner(NO_CALLBACKS, runtime.loop, runtime.callbacks)
        replacement = self.callbacks.run_in_context(on_submit, original)
        if replacement is None:
            replacement = original
        if not isinstance(replacement, Task):
            raise TypeError(f"on_submit must return a Task or None, got {replacement!r}")
        if replacement.background != original.background:
            raise ValueError(f"on_submit must not change background, got {replacement!r} for {original!r}")
        config.check_task(replacement.function, replacement.workload)
        spec = spec_of(replacement)
        if details.tries > 1:  # the deadlines that have been set are found by the options
            spec = TaskSpec(spec.function, list_options(self.spec.options, spec.unique, spec.callbacks))
        self.spec, self.workload = spec, replacement.workload
        self.callbacks.replace(spec.callbacks)

    def adopt(
        self, server: SubmissionHolder, handle: bytes | None, unique: bytes | None, warning: bytes | None
    ) -> None:
        """
        Represent a job that was sent as one of a batch.

        Args:
            server: The job server that it was sent to.
            handle: If it has one by now.
            unique: If one was generated.
            warning: The last WORK_WARNING, if one has arrived.
        """
        if warning is not None:
            self.get_details().keep_warning(warning)
        self.ticket = 0 if handle is None else handle  # any number: the core does not look for it
        self.holder = server
        self.unique = unique

    # Protocol callbacks (geartrain.protocol.handlers.SubmissionHandler).

    @property
    def merges(self) -> bool:
        """Whether a later submission may be given the same handle."""
        # No result comes for a background job, so it takes no copy of what comes for another one.
        return bool(self.spec.unique) and not self.spec.options.background

    def on_created(self, handle: bytes) -> bool:
        """Handle JOB_CREATED; return whether a result will follow."""
        if self.details is not None or self.callbacks is not None:
            self._notify_created()
        if self.spec.options.background:
            self.on_complete(handle, b"")
            return False
        return True

    def on_data(self, data: bytes) -> None:
        """Handle WORK_DATA."""
        self._notify_update("on_data", JobData(data))

    def on_warning(self, handle: bytes, data: bytes) -> None:
        """Handle WORK_WARNING, which may be the reason of a WORK_FAIL that follows."""
        self.get_details().keep_warning(data)
        self._notify_update("on_warning", JobWarning(data))

    def on_status(self, numerator: bytes, denominator: bytes) -> None:
        """Handle WORK_STATUS."""
        numbers = parse_number(numerator), parse_number(denominator)
        if numbers[0] is None or numbers[1] is None:
            logger = self.scheduler.runtime.logger
            if logger.isEnabledFor(logging.WARNING):
                words = printable(numerator), printable(denominator)
                logger.warning("%s: skipped a WORK_STATUS that holds no numbers: '%s' of '%s'", self, *words)
            return
        self.get_details().status = (numbers[0], numbers[1])
        self._notify_update("on_status", JobProgress(numbers[0], numbers[1]))

    def on_complete(self, handle: bytes, data: bytes) -> None:
        """Handle WORK_COMPLETE: end with the result."""
        server, future = self.holder, self.future
        assert future is not None, "a submission ends once"
        if self.details is not None or self.callbacks is not None:
            self._notify_end("on_complete", data)
        elif self.spec.options.has_timeout:
            server.scheduler.timeouts.stop(self)
        self.future = None
        server.counters.completed += 1
        try:  # noqa: SIM105  # contextlib.suppress would cost 0.2 us
            _set_result(future, data)
        except asyncio.InvalidStateError:
            pass  # its awaiter was cancelled in this turn of the loop
        if server.needs_advance:
            server.advance()

    def on_fail(self, handle: bytes) -> None:
        """Handle WORK_FAIL."""
        self._fail_try(job_errors.job_failed(self, None if self.details is None else self.details.reason))

    def on_exception(self, handle: bytes, data: bytes) -> None:
        """Handle WORK_EXCEPTION."""
        if self.callbacks is not None:
            self.callbacks.schedule("on_exception", data)
        self._fail_try(job_errors.job_exception(self, data))

    def on_too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        """Handle a result or update over the limit: end without a retry."""
        self.holder.counters.failed += 1
        self.fail(job_errors.job_too_large(self, kind, size, self.scheduler.runtime.config.max_packet_size))

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Handle ERROR in place of JOB_CREATED."""
        self._fail_try(job_errors.server_refused(self, self.holder.name, code, text))

    def on_unknown(self, handle: bytes) -> None:
        """Handle a job server that no longer knows the job."""
        self._fail_try(job_errors.job_lost(self))

    # Called by the channel, the dispatcher and the timeouts.

    def on_connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        """Handle the loss of the connection that it was sent over."""
        self._fail_try(job_errors.connection_lost(self, self.holder.name, error), back_off=True)

    def on_disconnected(self, handle: bytes | None = None) -> None:
        """End the job, unless it has ended: the client was disconnected."""
        if self.future is not None:
            self._fail_locally(job_errors.client_disconnected(self))

    def on_timeout(self) -> None:
        """End the job: its deadline has passed."""
        self._fail_locally(job_errors.job_timed_out(self, "job", self.spec.options.timeout or 0.0))

    def on_try_timeout(self) -> None:
        """End this try: its deadline has passed."""
        error = job_errors.job_timed_out(self, "try", self.spec.options.try_timeout or 0.0)
        self.holder.forget(self)
        self._fail_try(error)

    def on_back_off_end(self) -> None:
        """Begin the next try."""
        self.scheduler.end_back_off(self)

    def on_unreachable(self, error: NoServersError | NoWorkersError) -> None:
        """End the job, or schedule another try: no job server can be reached for this one."""
        details, scheduler = self.get_details(), self.scheduler
        if details.failure is None:
            self.fail(error)
            return
        wait = details.next_round(scheduler.runtime.loop.time(), scheduler.runtime.config.dead_time)
        if wait is not None:
            scheduler.dispatch_later(self, wait)
        elif details.tries <= self.spec.options.retry_count:
            self._try_again(back_off=True)
        else:
            # It was sent before, and what is known of that counts: NoServersError would say that nothing was sent.
            details.failure.add_note(str(error))
            self.fail(details.failure)

    def cancel(self, message: object | None = None) -> bool:
        """Discard the job; return whether it was outstanding. ``on_fail`` gets the ``CancelledError``."""
        if self.future is None:
            return False
        if (server := self._detach()) is not None:
            server.counters.cancelled += 1
        future, self.future = self.future, None
        self._notify_end("on_fail", asyncio.CancelledError() if message is None else asyncio.CancelledError(message))
        asyncio.Future.cancel(future, message)
        self._after_end()
        return True

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        future, self.future = self.future, None
        assert future is not None, "a submission ends once"
        self._notify_end("on_fail", error)
        if not future.cancelled():  # by its awaiter, in this turn of the loop
            _set_exception(future, error)
            if "on_fail" in self.spec.callbacks:
                future.exception()  # reported to the callback, so that asyncio does not log it as never retrieved
        self._after_end()

    def __repr__(self) -> str:
        handle = printable(str(self.handle or "without a handle"))
        return f"<Job {printable(self.spec.function)} {handle} {self.state.name.lower()}>"

    # Tries.

    def _fail_try(self, error: GearmanError, *, back_off: bool = False) -> None:
        """End the try, and with it the job if there are no tries left."""
        server, future = self.holder, self.future
        assert future is not None, "a submission ends once"
        server.counters.failed += 1
        # No retry if its awaiter was cancelled in this turn of the loop.
        if self.tries > self.spec.options.retry_count or future.cancelled():
            self.fail(error)
            return
        server.counters.retried += 1
        self.holder, self.ticket = server.scheduler, None
        self.get_details().failure = error
        self._try_again(back_off=back_off)
        if server.needs_advance:
            server.advance()

    def _try_again(self, *, back_off: bool) -> None:
        details = self.get_details()
        if self.callbacks is not None:
            self.callbacks.schedule("on_retry", details.tries)
        details.begin_try()
        self.scheduler.timeouts.stop_try(self)
        if back_off:
            self.scheduler.dispatch_later(self, delay(details.tries - 1))
        else:
            self.scheduler.dispatch(self)

    def _fail_locally(self, error: GearmanError) -> None:
        """End the job although its job server has not answered."""
        if (server := self._detach()) is not None:
            server.counters.failed += 1
        self.fail(error)

    def _detach(self) -> SubmissionHolder | None:
        """Take it back from wherever it is; return the channel to the job server that it was sent to, if it was."""
        return self.holder if self.holder.forget(self) else None

    # Notifications.

    def _notify_created(self) -> None:
        """Pass the handle to ``on_created`` and to the future that waits for it."""
        if self.callbacks is not None and "on_created" in self.callbacks:
            self.callbacks.schedule("on_created", self.handle)
        if self.details is not None and (created := self.details.created) is not None and not created.done():
            handle = self.handle
            assert handle is not None, "the core has just set it"
            created.set_result(handle)

    def _notify_update(self, callback: str, update: JobUpdate) -> None:
        if self.callbacks is not None:
            self.callbacks.schedule(callback, *update)
        if self.details is not None:
            for updates in self.details.updates or ():
                updates.put(update, self.holder.read_control)

    def _notify_end(self, callback: str, outcome: bytes | BaseException) -> None:
        """Stop the deadlines and notify everyone but those who await the future."""
        if self.spec.options.has_timeout:
            self.holder.scheduler.timeouts.stop(self)
        if self.callbacks is not None:
            self.callbacks.schedule(callback, outcome)
            self.callbacks = None
        if (details := self.details) is None:
            return
        if (created := details.created) is not None and not created.done():
            _end_created(created, outcome)
        for updates in details.updates or ():
            updates.close()
        details.created = None

    def _after_end(self) -> None:
        """Advance the holder if it waits for the end of a job, and check for the end of a drain."""
        if self.holder.needs_advance:
            self.holder.advance()
        self.scheduler.check_drained()


def _end_created(created: asyncio.Future[JobHandle], outcome: bytes | BaseException) -> None:
    if isinstance(outcome, asyncio.CancelledError):
        created.cancel()
    elif isinstance(outcome, BaseException):
        created.set_exception(outcome)
        created.exception()  # the job reports it, if nobody awaits this future
