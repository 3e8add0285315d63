"""Runs jobs, and sends how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geartrain.errors import JobFailedError
from geartrain.worker.job import WorkerJob, encode_result
from geartrain.worker.options import format_exception
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
    Runs one asyncio task a job.

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
        self._logger = options.logger
        self._format_exception = options.format_exception
        self._functions = functions
        self._make_call = make_call
        self._calls: dict[bytes, Call] = {}
        self._ended = ended
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
        self._tasks[job] = self._loop.create_task(self._run(job, session, call))

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
            if protocol.send_complete(assignment, encode_result(job.function, await call(job))):
                end = "completed"
        except JobFailedError:
            if protocol.send_fail(assignment):
                end = "failed"
        except asyncio.CancelledError as error:
            if self._aborted:
                raise
            if self._report(job, session, error):  # the function cancelled itself
                end = "raised"
        except (KeyboardInterrupt, GeneratorExit):
            raise  # the one is for the whole program, the other for this coroutine
        except BaseException as error:  # noqa: BLE001
            # Whatever it is, the client has to hear of it. If sys.exit() ended the worker, the job would go to the next
            # one and end that, too. A panic in an extension written in Rust is no Exception either.
            if self._report(job, session, error):
                end = "raised"
        finally:
            session.counts[end] += 1
            job._ended = True
            del self._tasks[job]
            if job._straggler is None:
                self._ended()
            else:
                job._straggler.add_done_callback(self._straggler_ended)

    def _report(self, job: WorkerJob, session: Session, error: BaseException) -> bool:
        self._logger.error("%r raised %s", job, type(error).__name__, exc_info=error)
        return session.protocol.send_exception(job._assignment, self._describe(error))

    def _describe(self, error: BaseException) -> bytes:
        try:
            text = self._format_exception(error)
            return text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
        except Exception:
            self._logger.exception("format_exception raised")
            return format_exception(error).encode("utf-8", "backslashreplace")

    def _straggler_ended(self, _: Future[object]) -> None:
        """Hear, in its thread, that a thread has ended after its job was over."""
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            assert self._loop.is_closed()  # it outlived the worker
