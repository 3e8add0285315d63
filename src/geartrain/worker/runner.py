"""Runs jobs, and sends how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geartrain.errors import JobFailedError
from geartrain.worker.job import WorkerJob, encode_result

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from concurrent.futures import Future

    from geartrain.protocol.worker import Assignment
    from geartrain.worker.function import Call, Function
    from geartrain.worker.session import Session

__all__ = ["Runner"]


class Runner:
    """
    Runs one asyncio task a job.

    Args:
        loop: Where.
        functions: What is offered, by ability.
        make_call: Gives what runs the jobs of a function.
        ended: Called when a job has ended and its slot is free.
        logger: Told of exceptions.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        functions: Mapping[bytes, Function],
        make_call: Callable[[Function], Call],
        ended: Callable[[], None],
        logger: logging.Logger,
    ) -> None:
        self._loop = loop
        self._functions = functions
        self._make_call = make_call
        self._calls: dict[bytes, Call] = {}
        self._ended = ended
        self._logger = logger
        self._tasks: dict[WorkerJob, asyncio.Task[None]] = {}
        self._aborted = False

    def start(self, session: Session, assignment: Assignment) -> None:
        """Run a job that has a slot."""
        function = self._functions[assignment.function]
        call = self._calls.get(assignment.function)
        if call is None:
            call = self._calls[assignment.function] = self._make_call(function)
        job = WorkerJob(session, assignment, function.name)
        self._tasks[job] = self._loop.create_task(self._run(job, call))

    def abort(self) -> list[asyncio.Task[None]]:
        """Cancel all jobs, and return their tasks; what they send is not to arrive."""
        self._aborted = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        return tasks

    async def _run(self, job: WorkerJob, call: Call) -> None:
        protocol, assignment = job._session.protocol, job._assignment
        try:
            protocol.send_complete(assignment, encode_result(job.function, await call(job)))
        except JobFailedError:
            protocol.send_fail(assignment)
        except asyncio.CancelledError as error:
            if self._aborted:
                raise
            self._report(job, error)  # the function cancelled itself
        except Exception as error:  # noqa: BLE001  # whatever it is, the client has to hear of it
            self._report(job, error)
        finally:
            job._ended = True
            del self._tasks[job]
            if job._straggler is None:
                self._ended()
            else:
                job._straggler.add_done_callback(self._straggler_ended)

    def _report(self, job: WorkerJob, error: BaseException) -> None:
        self._logger.error("%r raised %s", job, type(error).__name__, exc_info=error)
        text = f"{type(error).__name__}: {error}"
        job._session.protocol.send_exception(job._assignment, text.encode("utf-8", "backslashreplace"))

    def _straggler_ended(self, _: Future[object]) -> None:
        """Hear, in its thread, that a thread has ended after its job was over."""
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            assert self._loop.is_closed()  # it outlived the worker
