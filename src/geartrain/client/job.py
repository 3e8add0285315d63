"""One submission of a Task, alive in the client."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, ClassVar, NoReturn

from geartrain.backoff import delay
from geartrain.client import failures
from geartrain.client.callbacks import Callbacks
from geartrain.client.extras import Extras
from geartrain.client.handles import make_handle
from geartrain.client.updates import JobData, JobProgress, JobUpdate, JobWarning, Updates
from geartrain.handle import JobHandle
from geartrain.printable import printable
from geartrain.protocol.numbers import parse_number
from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from geartrain.client.link import Link
    from geartrain.client.pool import Pool
    from geartrain.client.task import Task
    from geartrain.errors import GearmanError, NoServersError, NoWorkersError

__all__ = ["Job"]


# Looked up once: super() is a good part of what a job costs.
_init = asyncio.Future.__init__
_set_result = asyncio.Future.set_result


class Job(asyncio.Future[bytes]):
    """
    A future of the result, ``bytes``; ``Client.add_task`` makes it.

    Besides what a future does: ``async for update in job`` gives :class:`JobData`, :class:`JobWarning` and
    :class:`JobProgress` as they come, until the job ends.

    Cancelling it makes the client forget the job; Gearman has no packet for that, so the worker is not told.

    Attributes:
        tries: How many tries were begun; 1 from the start.
    """

    # The core calls the methods that a Submission has, each when the packet is on the wire. The state of a job is in
    # few fields: a job that waits in its link has no ticket; `_link` is None while it waits for a retry.
    __slots__ = ("_extras", "_link", "_pool", "_task", "_ticket", "_unique", "_workload", "tries")

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED

    def __init__(self, task: Task, workload: bytes, pool: Pool) -> None:
        _init(self, loop=pool.loop)
        self._task = task  # but for the workload, so that many jobs can have one
        self._workload = workload
        self.tries: int = 1
        self._pool = pool
        self._link: Link | None = None
        self._ticket: int | bytes | None = None
        self._unique: bytes | None = None  # one that was generated, for all tries
        self._extras: Extras | None = None
        if task._callbacks:
            self._get_extras().callbacks = Callbacks(task._callbacks, pool.loop, pool.callbacks)

    # What users see.

    @property
    def task(self) -> Task:
        """What was asked for."""
        if self._task.workload is not self._workload:
            self._task = self._task.with_workload(self._workload)
        return self._task

    @property
    def handle(self) -> JobHandle | None:
        """The job's name at its job server, or ``None`` as long as that has not given one to this try."""
        if self._link is None or not isinstance(self._ticket, bytes):
            return None
        return make_handle(self._link.name, self._ticket, self._task, self._unique)

    @property
    def status(self) -> tuple[int | float, int | float] | None:
        """Numerator and denominator of the last WORK_STATUS of this try, or ``None``."""
        return self._extras.status if self._extras is not None else None

    async def created(self) -> JobHandle:
        """
        Wait until a job server has accepted the job, and return its handle.

        Cancelling the wait leaves the job as it is.

        Raises:
            LocalProtocolError: If it is awaited in another loop than the client's.
            GearmanError: What ended the job before any job server accepted it.
            asyncio.CancelledError: The job was cancelled before.
        """
        self._pool.check_place()
        if (handle := self.handle) is not None:
            return handle
        if self.done():
            self.result()
        extras = self._get_extras()
        if extras.created is None:
            extras.created = self.get_loop().create_future()
        return await asyncio.shield(extras.created)

    def __aiter__(self) -> Updates:
        self._pool.check_place()
        updates = Updates(self)
        if not self.done():
            self._get_extras().add(updates)
        return updates

    def cancel(self, msg: object | None = None) -> bool:
        """
        Forget the job. ``on_fail`` is called with the ``CancelledError``; return whether there was one to forget.

        Raises:
            LocalProtocolError: If it is called in another thread or loop than the client's.
        """
        if self.done():
            return False
        self._pool.check_place()
        if (link := self._withdraw()) is not None:
            link.cancelled += 1
        self._finish("on_fail", asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        super().cancel(msg)
        self._settle()
        return True

    def set_result(self, result: object) -> NoReturn:
        """Raise ``RuntimeError``: a job ends by what its job server says."""
        raise RuntimeError("a Job does not support set_result")

    def set_exception(self, exception: object) -> NoReturn:
        """Raise ``RuntimeError``: a job ends by what its job server says."""
        raise RuntimeError("a Job does not support set_exception")

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "outstanding"
        handle = printable(str(self.handle or "without a handle"))
        return f"<Job {printable(self._task.function)} {handle} {state}>"

    @property
    def _awaited(self) -> asyncio.Future[bytes]:
        """What whoever has submitted it awaits; of a call that is something else."""
        return self

    # For those that are no Job as long as all goes well (`client.plain`).

    def _take_over(self, link: Link, handle: bytes | None, unique: bytes | None) -> None:
        """
        Start as a job that was already sent over this link and ends immediately.

        Args:
            link: The job server.
            handle: That it was given, if any.
            unique: That was generated for it, if any.
        """
        self._link = link
        self._unique = unique
        self._ticket = 0 if handle is None else handle  # any number: the core is not asked for it any more

    def _drop(self) -> None:
        """Cancel it, or if it has ended silence it."""
        if not self.cancel():
            self._silence()

    def _silence(self) -> None:
        """Let nobody be told that its error was never asked for."""
        if not self.cancelled():
            self.exception()

    # What the protocol core tells (`protocol.owners.Submission`).

    @property
    def _merges(self) -> bool:
        # No result comes for a background job, so it takes no copy of what comes for another one.
        return bool(self._task._unique) and not self._task._options.background

    def _created(self, handle: bytes) -> bool:
        options = self._task._options
        if self._extras is not None:
            self._announce(self._extras)
        if options.background:
            self._completed(handle, b"")
            return False
        return True

    def _data(self, data: bytes) -> None:
        self._update("on_data", JobData(data))

    def _warning(self, data: bytes) -> None:
        self._update("on_warning", JobWarning(data))

    def _status(self, numerator: bytes, denominator: bytes) -> None:
        numbers = parse_number(numerator), parse_number(denominator)
        if numbers[0] is None or numbers[1] is None:
            if self._pool.logger.isEnabledFor(logging.WARNING):
                words = printable(numerator), printable(denominator)
                self._pool.logger.warning("%s: skipped a WORK_STATUS that holds no numbers: '%s' of '%s'", self, *words)
            return
        self._get_extras().status = (numbers[0], numbers[1])
        self._update("on_status", JobProgress(numbers[0], numbers[1]))

    def _completed(self, handle: bytes, data: bytes) -> None:
        link = self._link
        assert link is not None, "only what was sent is completed"
        link.completed += 1
        if self._extras is not None:
            self._finish("on_complete", data)
        elif self._task._options.timed:
            self._pool.timeouts.end(self)
        _set_result(self, data)
        if link.alert:
            link.attend()

    def _failed(self, handle: bytes) -> None:
        self._try_failed(failures.failed(self))

    def _raised(self, handle: bytes, data: bytes) -> None:
        if self._extras is not None and self._extras.callbacks is not None:
            self._extras.callbacks.call("on_exception", data)
        self._try_failed(failures.raised(self, data))

    def _too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        assert self._link is not None, "only what was sent has updates and a result"
        self._link.failed += 1
        self._fail(failures.too_large(self, kind, size))

    def _refused(self, code: bytes, text: bytes) -> None:
        self._try_failed(failures.refused(self, self._server, code, text))

    def _forgotten(self, handle: bytes) -> None:
        self._try_failed(failures.forgotten(self))

    # What the layers below and above tell.

    def _connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        """Hear that the connection that it was sent over is gone."""
        self._try_failed(failures.lost(self, self._server, error), back_off=True)

    def _timed_out(self) -> None:
        """Hear that the time for the whole job is over."""
        self._end_unheard(failures.timed_out(self, "job", self._task._options.timeout or 0.0))

    def _try_timed_out(self) -> None:
        """Hear that the time for this try is over."""
        error = failures.timed_out(self, "try", self._task._options.try_timeout or 0.0)
        assert self._link is not None, "the time for a try runs once it is sent"
        self._link.forget(self)
        self._try_failed(error)

    def _disconnected(self, handle: bytes | None = None) -> None:
        """Hear that the client was told to drop everything."""
        self._end_unheard(failures.disconnected(self))

    def _unreachable(self, error: NoServersError | NoWorkersError) -> None:
        """Hear that there is no job server that this try could be sent to, at present."""
        extras, pool = self._get_extras(), self._pool
        if extras.failure is None:
            self._fail(error)
            return
        wait = extras.miss(pool.loop.time(), dead_time=pool.options.dead_time, tries=self.tries)
        if wait is not None:
            pool.retry_later(self, wait)
        elif self.tries <= self._task._options.retry_count:
            self._try_again(back_off=True)
        else:
            # It was sent before, so what is known of that counts: NoServersError would say that nothing was.
            extras.failure.add_note(str(error))
            self._fail(extras.failure)

    def _fail(self, error: BaseException) -> None:
        """End with an error."""
        self._finish("on_fail", error)
        super().set_exception(error)
        if "on_fail" in self._task._callbacks:
            self.exception()  # somebody was told of it, so that it is not reported as never retrieved
        self._settle()

    # Inside.

    def _get_extras(self) -> Extras:
        if self._extras is None:
            self._extras = Extras()
        return self._extras

    @property
    def _server(self) -> str:
        """The job server that this try was sent to."""
        return self._link.name if self._link is not None else ""

    def _announce(self, extras: Extras) -> None:
        """Tell those who want the handle."""
        if extras.callbacks is not None and "on_created" in extras.callbacks:
            extras.callbacks.call("on_created", self.handle)
        if extras.created is not None and not extras.created.done():
            handle = self.handle
            assert handle is not None, "it has just been given"
            extras.created.set_result(handle)

    def _update(self, callback: str, update: JobUpdate) -> None:
        extras = self._extras
        if extras is None:
            return
        if extras.callbacks is not None:
            extras.callbacks.call(callback, *update)
        for updates in extras.updates or ():
            updates._put(update, self._link.session if self._link is not None else None)

    def _withdraw(self) -> Link | None:
        """Take the job from wherever it is; return the link that it was sent over, if it was."""
        self._pool.unplaced.pop(self, None)
        if self._extras is not None and self._extras.back_off is not None:
            self._pool.timeouts.retries.remove(self, self._extras.back_off)
            self._extras.back_off = None
        if self._link is None or not self._link.forget(self):
            return None
        return self._link

    def _end_unheard(self, error: GearmanError) -> None:
        """End the job although its job server has said nothing."""
        if (link := self._withdraw()) is not None:
            link.failed += 1
        self._fail(error)

    def _try_failed(self, error: GearmanError, *, back_off: bool = False) -> None:
        """End the try, and with it the job if there are no tries left."""
        link = self._link
        assert link is not None, "a try is at a link"
        link.failed += 1
        if self.tries > self._task._options.retry_count:
            self._fail(error)
            return
        link.retried += 1
        self._link = self._ticket = None
        self._get_extras().failure = error
        self._try_again(back_off=back_off)
        if link.alert:
            link.attend()

    def _try_again(self, *, back_off: bool) -> None:
        extras = self._get_extras()
        extras.begin_try()
        if extras.callbacks is not None:
            extras.callbacks.call("on_retry", self.tries)
        self._pool.timeouts.end_try(self)
        self.tries += 1
        if back_off:
            self._pool.retry_later(self, delay(self.tries - 1))
        else:
            self._pool.dispatch(self)

    def _settle(self) -> None:
        """See to those who wait for the end of jobs."""
        if self._link is not None and self._link.alert:
            self._link.attend()
        self._pool.check_drained()

    def _finish(self, callback: str, outcome: bytes | BaseException) -> None:
        """Tell all but those who await the job that it is about to end."""
        options = self._task._options
        if options.timed:
            self._pool.timeouts.end(self)
        extras = self._extras
        if extras is None:
            return
        if extras.callbacks is not None:
            extras.callbacks.call(callback, outcome)
        if extras.created is not None and not extras.created.done():
            self._end_created(extras.created, outcome)
        for updates in extras.updates or ():
            updates._end()
        extras.callbacks = extras.created = None

    def _end_created(self, created: asyncio.Future[JobHandle], outcome: bytes | BaseException) -> None:
        if isinstance(outcome, asyncio.CancelledError):
            created.cancel()
        elif isinstance(outcome, BaseException):
            created.set_exception(outcome)
            created.exception()  # the job reports it, where nobody awaits either
