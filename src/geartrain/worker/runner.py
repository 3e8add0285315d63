"""Runs jobs, and sends how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from geartrain.errors import JobFailedError
from geartrain.worker.exceptions import format_exception, log_exception, type_name
from geartrain.worker.forked import ProcessId, exit_forked_copy
from geartrain.worker.job import WorkerJob, encode_result
from geartrain.worker.results import PLAIN_TYPES, needs_loop, resolve
from geartrain.worker.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from geartrain.protocol.worker import Assignment
    from geartrain.worker.function import Call, Function
    from geartrain.worker.options import WorkerOptions

__all__ = ["Runner"]


class Runner:
    """
    Runs one asyncio task a job, in a copy of the ``contextvars`` context in which this object is made.

    Args:
        loop: Where.
        options: The worker's options.
        functions: What is offered, by ability.
        make_call: Gives what runs the jobs of a function.
        ended: Called when a job has ended and its slot is free.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: WorkerOptions,
        functions: Mapping[bytes, Function],
        make_call: Callable[[Function], Call],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._process = ProcessId.current
        self._logger = options.logger
        self._format_exception = options.format_exception
        self._functions = functions
        self._make_call = make_call
        self._calls: dict[bytes, Call] = {}
        self._ended = ended
        self._context = copy_context()
        self._tasks: dict[WorkerJob, asyncio.Task[None]] = {}
        self._aborted = False

    @property
    def running(self) -> int:
        """Jobs in hand."""
        return len(self._tasks)

    def start(self, session: Session, assignment: Assignment) -> None:
        """Run a job that has a slot."""
        if self._aborted:
            return  # it came while the connections were being closed, and goes back with them
        function = self._functions[assignment.function]
        call = self._calls.get(assignment.function)
        if call is None:
            call = self._calls[assignment.function] = self._make_call(function)
        job = WorkerJob(session, assignment, function.name)
        session.counts["taken"] += 1
        # A job may be started by the end of another one, whose context it must not inherit.
        task = self._loop.create_task(self._run(job, session, call), context=self._context.copy())
        if not task.done():  # an eager task runs at once, and may have ended
            self._tasks[job] = task

    def abort(self) -> list[asyncio.Task[None]]:
        """Cancel all jobs, and return their tasks; what they send is not to arrive."""
        self._aborted = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        return tasks

    def close(self) -> None:
        """Count the jobs that were cancelled before they had begun."""
        for job in self._tasks:
            assert isinstance(job._channel, Session)
            job._channel.counts["lost"] += 1
        self._tasks.clear()

    async def _run(self, job: WorkerJob, session: Session, call: Call) -> None:
        protocol, assignment = session.protocol, job._assignment
        end = "lost"
        try:
            result = await call(job)
            if ProcessId.current != self._process:
                exit_forked_copy(None)
            if type(result) not in PLAIN_TYPES and needs_loop(result):
                result = await resolve(result, job)
            if protocol.send_complete(assignment, encode_result(job.function, result)):
                end = "completed"
        except BaseException as error:
            if ProcessId.current != self._process:
                exit_forked_copy(error)
            # The job has to end here whatever the function raised: if sys.exit() ended the worker, the job server would
            # give the job to the next worker and end that one as well. A panic in a Rust extension is no Exception.
            if self._comes_from_outside(job, error):
                raise
            end = self._fail(job, session, error)
        finally:
            session.counts[end] += 1
            job._ended = True
            self._tasks.pop(job, None)
            if job._straggler is None:
                self._ended()
            else:
                job._straggler.add_done_callback(self._straggler_ended)

    def _comes_from_outside(self, job: WorkerJob, error: BaseException) -> bool:
        """Return whether the function did not raise this: the worker, or its event loop, ends."""
        kind = type(error)  # isinstance() would believe a __class__ of the exception's own
        if issubclass(kind, asyncio.CancelledError | KeyboardInterrupt):
            return self._aborted
        if issubclass(kind, GeneratorExit):  # a pending task is destroyed, with a loop that was closed too early
            task = self._tasks.get(job)
            return task is not None and task is not asyncio.current_task(self._loop)
        return False

    def _fail(self, job: WorkerJob, session: Session, error: BaseException) -> str:
        """End a job by what its function raised; return the name by which it is counted."""
        if issubclass(type(error), JobFailedError):
            return "failed" if session.protocol.send_fail(job._assignment) else "lost"
        try:
            log_exception(self._logger, error, "%r raised %s", job, type_name(error))
        finally:  # a handler of the log may raise
            sent = session.protocol.send_exception(job._assignment, self._describe(error))
        return "raised" if sent else "lost"

    def _describe(self, error: BaseException) -> bytes:
        try:
            return _encode_text(self._format_exception(error))
        except BaseException as failure:  # noqa: BLE001  # the job has to end, whatever the user's function does
            log_exception(self._logger, failure, "format_exception raised")
            return _encode_text(format_exception(error))

    def _straggler_ended(self, _: Future[Any]) -> None:
        """Hear, in its thread, that a thread has ended after its job was over."""
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            assert self._loop.is_closed()  # it outlived the worker


def _encode_text(text: bytes | str) -> bytes:
    if isinstance(text, str):
        return str.encode(text, "utf-8", "backslashreplace")
    return bytes(memoryview(text))
