"""The worker: runs tasks in the thread that calls ``work()``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from geartrain import JobFailedError, NoServersError, WorkerJob
from geartrain.compat.shared.encoder import SharedNoopEncoder
from geartrain.compat.shared.flavour import to_bytes, to_text
from geartrain.compat.shared.manager import Host, SharedManager
from geartrain.compat.shared.running_job import RunningJob, WorkExceptionError, logger
from geartrain.compat.shared.work_run import WorkRun

__all__ = ["POLL_TIMEOUT_IN_SECONDS", "SharedWorker"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

POLL_TIMEOUT_IN_SECONDS = 60.0


class SharedWorker(SharedManager):
    """
    Runs tasks, one at a time, in the thread that calls :meth:`work`, like all hooks.

    A task is called with this worker and the job, and returns the result. If it raises, the job fails.

    Args:
        host_list: See :class:`GearmanConnectionManager`.

    Attributes:
        worker_abilities: The functions of the tasks, by name.
        worker_client_id: The name of this worker at the job servers, or ``None``.
    """

    def __init__(self, host_list: Iterable[Host] | None = None) -> None:
        super().__init__(host_list)
        self.worker_abilities: dict[Any, Callable[..., Any]] = {}
        self.worker_client_id: Any = None
        self.__run: WorkRun | None = None
        self.__running: RunningJob | None = None
        self.__is_ending = False
        self.__has_changed = threading.Event()

    # Configuration, possible at any time.

    def register_task(self, task: Any, callback_function: Callable[..., Any]) -> Any:
        """Offer a task to the job servers; return its name."""
        self.worker_abilities[task] = callback_function
        self.__restart()
        return task

    def unregister_task(self, task: Any) -> Any:
        """Offer a task no longer; return its name."""
        self.worker_abilities.pop(task, None)
        self.__restart()
        return task

    def set_client_id(self, client_id: Any) -> Any:
        """Set the name of this worker at the job servers, and return it."""
        self.worker_client_id = client_id
        self.__restart()
        return client_id

    def __restart(self) -> None:
        """Have the loop in :meth:`work` go on with what is configured now."""
        self.__has_changed.set()
        run = self.__run
        if run is not None:
            run.stop()

    # Work.

    def work(self, poll_timeout: float | None = POLL_TIMEOUT_IN_SECONDS) -> None:
        """
        Run jobs until :meth:`after_poll` returns ``False``, or :meth:`shutdown` is called.

        Args:
            poll_timeout: How often to call :meth:`after_poll` while there is no job (seconds), or ``None`` for never.

        Raises:
            ServerUnavailable: If no job server can be reached. It can be called again.
            BaseException: What a hook has raised, or KeyboardInterrupt and SystemExit from a task. Another worker gets
                the job unless it has ended.
        """
        super().shutdown()  # the connections of establish_worker_connections()
        self.__is_ending = False
        if not self.__call_after_poll(False):
            return
        if not self.connection_list:
            raise self._make_unavailable()
        try:
            while not self.__is_ending:
                self.__has_changed.clear()
                self.__work_once(poll_timeout)
        finally:
            self.__run = None
            self.__set_connected(False)

    def __work_once(self, poll_timeout: float | None) -> None:
        """Work with the tasks that are registered now, until that changes."""
        if not self.worker_abilities:
            if not self.__has_changed.wait(poll_timeout):
                self.__call_after_poll(False)
            return
        self.__check_same_tls()
        client_id = None if self.worker_client_id is None else to_text(self.worker_client_id)
        self.__run = run = WorkRun(
            self.__execute,
            self.__call_after_poll,
            self.connection_list,
            map(to_text, self.worker_abilities),
            client_id,
        )
        if self.__is_ending:  # shutdown() has not seen this run
            return
        self.__set_connected(True)  # or about to be
        try:
            run.run(poll_timeout)
        except NoServersError as error:
            self.__set_connected(False)
            raise self._make_unavailable() from error

    def __set_connected(self, connected: bool) -> None:
        for connection in self.connection_list:
            connection.connected = connected

    def __check_same_tls(self) -> None:
        files = {
            (each.keyfile, each.certfile, each.ca_certs) if each.use_ssl else None for each in self.connection_list
        }
        if len(files) > 1:
            raise self.flavour.errors.base(
                f"all job servers of a worker must have the same files for TLS, got {self.connection_list!r}"
            )

    def shutdown(self) -> None:
        """Have :meth:`work` return once the job in progress has ended. May be called from anywhere."""
        self.__is_ending = True
        self.__restart()
        super().shutdown()

    def establish_worker_connections(self) -> list[Any]:
        """Connect to all job servers, and return the connections to those that can be reached."""
        reached: list[Any] = []
        for connection in self.connection_list:
            try:
                reached.append(self.establish_connection(connection))
            except self.flavour.errors.connection as error:
                logger.warning("%s", error)
        return reached

    # Hooks.

    def after_poll(self, any_activity: bool) -> bool:
        """
        Called at the start, after each job, and each ``poll_timeout`` seconds; return whether to go on.

        Args:
            any_activity: Whether a job was run.
        """
        return True

    def after_job(self) -> bool:
        """Called after each job; return whether to go on."""
        return True

    def create_job(self, command_handler: Any, job_handle: Any, task: Any, unique: Any, data: Any) -> Any:
        """Return a job for what the job server has assigned. The first argument is the connection."""
        return self.job_class(command_handler, job_handle, task, unique, data)

    def on_job_execute(self, current_job: Any) -> Any:
        """Run the task of a job, and then :meth:`on_job_complete` or :meth:`on_job_exception`."""
        try:
            result = self.__get_callback(current_job.task)(self, current_job)
        except Exception:  # noqa: BLE001  # the hook decides
            return self.on_job_exception(current_job, sys.exc_info())
        return self.on_job_complete(current_job, result)

    def on_job_exception(self, current_job: Any, exc_info: ExcInfo) -> bool:
        """Called in the ``except`` block if the task has raised: has the job fail."""
        self.send_job_failure(current_job)
        return False

    def on_job_complete(self, current_job: Any, job_result: Any) -> bool:
        """Called with what the task has returned: sends the result."""
        self.send_job_complete(current_job, job_result)
        return True

    def __get_callback(self, task: Any) -> Callable[..., Any]:
        """Return the function of a task, which may be registered as text or as bytes."""
        for name in (task, to_text(task), to_bytes(task)):
            if name in self.worker_abilities:
                return self.worker_abilities[name]
        raise KeyError(task)

    # What a task may send.

    def send_job_status(
        self, current_job: Any, numerator: float, denominator: float, poll_timeout: float | None = None
    ) -> None:
        """
        Report the progress of a job.

        Raises:
            InvalidWorkerState: If the worker is not running this job; so do the following methods.
        """
        self.__get_running(current_job).send_status(numerator, denominator)

    def send_job_data(self, current_job: Any, data: Any, poll_timeout: float | None = None) -> None:
        """Send a part of the result."""
        self.__get_running(current_job).send_data(self.__encode(data))

    def send_job_warning(self, current_job: Any, data: Any, poll_timeout: float | None = None) -> None:
        """Send a warning."""
        self.__get_running(current_job).send_warning(self.__encode(data))

    def send_job_complete(self, current_job: Any, data: Any, poll_timeout: float | None = None) -> None:
        """
        End a job with its result. The job server gets it when the hooks have returned.

        A result that cannot be encoded fails the job, and the worker goes on.
        """
        running = self.__get_running(current_job)
        try:
            running.end(self.__encode(data))
        except Exception:  # noqa: BLE001  # whatever the program's encoder raises
            logger.exception("the result of %r cannot be encoded", current_job)
            running.end(JobFailedError())

    def send_job_failure(self, current_job: Any, poll_timeout: float | None = None) -> None:
        """End a job with WORK_FAIL."""
        self.__get_running(current_job).end(JobFailedError())

    def send_job_exception(self, current_job: Any, data: Any, poll_timeout: float | None = None) -> None:
        """End a job with WORK_EXCEPTION."""
        self.__get_running(current_job).end(WorkExceptionError(self.__encode(data)))

    def wait_until_updates_sent(self, multiple_gearman_jobs: Iterable[Any], poll_timeout: float | None = None) -> None:
        """Return: an update is sent at once."""

    def __encode(self, data: Any) -> bytes:
        if data is None and isinstance(self.data_encoder, type) and issubclass(self.data_encoder, SharedNoopEncoder):
            return b""
        return to_bytes(self.data_encoder.encode(data))

    def __get_running(self, job: Any) -> RunningJob:
        if self.__running is None or self.__running.job is not job:
            raise self.flavour.errors.worker_state(f"the worker is not running {job!r}")
        return self.__running

    # For the run.

    def __execute(self, running: RunningJob) -> None:
        """Run the task and the hooks of a job. If its data cannot be decoded, it fails, and the worker goes on."""
        try:
            data = self.data_encoder.decode(self.flavour.from_bytes(running.worker_job.workload))
        except Exception:  # noqa: BLE001  # whatever the program's encoder raises
            logger.exception("the data of %r cannot be decoded", running.worker_job)
            running.end(JobFailedError())
            return
        running.job = self.__create_job(running.worker_job, data)
        self.__running = running
        try:
            self.on_job_execute(running.job)
        finally:
            self.__running = None

    def __create_job(self, job: WorkerJob, data: Any) -> Any:
        connection = next((each for each in self.connection_list if each.address == job.server), None)
        handle, task, unique = map(self.flavour.from_text, (job.handle, job.function, job.unique))
        return self.create_job(connection, handle, task, unique, data)

    def __call_after_poll(self, any_activity: bool) -> bool:
        """Call the hooks between jobs, and return whether to go on."""
        if not self.after_poll(any_activity) or (any_activity and not self.after_job()):
            self.__is_ending = True
        return not self.__is_ending
