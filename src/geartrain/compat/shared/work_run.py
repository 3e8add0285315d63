"""One run of a worker, with the tasks that it has at its start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from geartrain import NoServersError, WorkerJob
from geartrain.blocking import Worker
from geartrain.compat.shared.running_job import RunningJob, format_exception, logger

__all__ = ["WorkRun"]


class WorkRun:
    """
    Runs tasks in the thread that calls :meth:`run`.

    Args:
        execute: Runs the task and the hooks of a job.
        after_poll: Calls the hooks between jobs, with whether a job was run, and returns whether to go on.
        connections: Its job servers.
        tasks: The names of its tasks.
        client_id: Its name at the job servers, or ``None``.
    """

    def __init__(
        self,
        execute: Callable[[RunningJob], None],
        after_poll: Callable[[bool], bool],
        connections: Iterable[Any],
        tasks: Iterable[str],
        client_id: str | None,
    ) -> None:
        connections = list(connections)
        self._execute = execute
        self._after_poll = after_poll
        self._is_stopping = False
        self._failure: BaseException | None = None
        self._worker = Worker(
            [connection.address for connection in connections],
            client_id=client_id,
            tls=connections[0].make_tls(),
            format_exception=format_exception,
            logger=logger,
        )
        for task in tasks:
            self._worker.function(task)(self._run_job)

    def run(self, poll_timeout: float | None) -> None:
        """
        Run jobs until :meth:`stop`.

        Raises:
            NoServersError: If no job server can be reached.
            BaseException: What a hook has raised. If that was before the job ended, another worker gets the job.
        """
        on_idle: Callable[[], object] | None = None if poll_timeout is None else self._on_idle
        try:
            self._worker.run(on_idle=on_idle, interval=poll_timeout or 1.0, wait_for_servers=False)
        except SystemExit:
            if not self._is_stopping:
                raise
        except NoServersError:
            if not self._is_stopping:
                raise
        if self._failure is not None:
            try:
                raise self._failure
            finally:
                self._failure = None  # its traceback refers to this frame

    def stop(self) -> None:
        """Have :meth:`run` return once the job in progress has ended. May be called from anywhere."""
        self._is_stopping = True
        self._worker.stop()

    def _on_idle(self) -> None:
        # It may have been due already when the run was stopped.
        if not self._is_stopping and not self._after_poll(False):
            self.stop()

    def _run_job(self, job: WorkerJob) -> bytes:
        if self._is_stopping:
            raise SystemExit("the worker is leaving; another one gets the job")
        running = RunningJob(job)
        try:
            self._execute(running)
        except BaseException as error:
            self._fail(error)
            if not running.has_ended:
                raise SystemExit("the job is not done; another worker gets it") from error
        else:
            self._continue_or_stop()
        return running.get_result()

    def _continue_or_stop(self) -> None:
        """Call the hooks before the job server gets the result, upon which it may assign the next job."""
        try:
            if not self._after_poll(True):
                self.stop()
        except BaseException as error:  # noqa: BLE001  # raised by run(), once the job has ended
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self.stop()
