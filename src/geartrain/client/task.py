"""What a client asks for. A Task is immutable and may be submitted many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Unpack

from geartrain.client.task_options import MapOptions, Priority, TaskOptions, list_options
from geartrain.client.task_spec import TaskSpec, encode_workload

__all__ = ["MapOptions", "Priority", "Task", "TaskOptions", "join_task", "spec_of"]


class Task:
    """
    A piece of work to ask for: function, workload, options, callbacks.

    Args:
        function: The name under which workers registered it; 1 to 512 bytes of UTF-8 without NUL.
        workload: What it is to work on; opaque to Gearman. ``str`` is encoded as UTF-8.

    Keyword Args:
        unique: A key of up to 63 bytes by which a job server merges equal work into one job; with ``"-"`` the workload
            is the key. By default jobs are not merged; a background job gets a generated unique, see below. ``""``
            sends an empty one.
        priority: Which of the function's three queues it enters.
        background: Do not wait for the result: the job is done, with ``b""``, once the job server has accepted it.
        run_at: With ``background``, the earliest time to run: an aware ``datetime`` or seconds since the epoch.
        retry_count: The maximum number of tries after the first one, if it fails or is lost with its connection.
        timeout: Seconds for the whole job, from submission to result, including retries.
        try_timeout: Seconds for one try, from being sent to its end.
        require_worker: Fail immediately with :class:`NoWorkersError` if no reachable job server has a worker for the
            function, instead of waiting for one. Each job server is asked at most once a second.
        on_created: Called with the :class:`JobHandle` of each try that a job server accepted.
        on_data: Called with the body of each WORK_DATA.
        on_warning: Called with the body of each WORK_WARNING.
        on_status: Called with numerator and denominator of each WORK_STATUS: ``int``, or ``float`` for a fraction.
        on_retry: Called with the number of the retry, from 1.
        on_exception: Called with the body of a WORK_EXCEPTION.
        on_complete: Called last, with the result.
        on_fail: Called last, with the error that ``await job`` would raise.

    A background job without a unique is sent with a generated one of 16 characters, the same for all of its tries,
    because a gearmand with a persistent queue stores one job per function and unique and would lose the others at a
    restart. It does not influence which job server gets the job, and is available as ``JobHandle.unique``.

    Callbacks are functions or coroutine functions. Those of one job run one after the other, in wire order, in the
    ``contextvars`` context in which it was submitted. One that raises is reported to the loop's exception handler.

    Raises:
        ValueError: If Gearman cannot carry it.
        TypeError: If something has the wrong type, or an option does not exist.
    """

    __slots__ = ("__weakref__", "_spec", "_workload")

    def __init__(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> None:
        self._spec = TaskSpec(function, options)
        self._workload = workload if type(workload) is bytes else encode_workload(workload)

    def with_workload(self, workload: bytes) -> Task:
        """Return a task that differs in its workload only."""
        return join_task(self._spec, workload)

    def replace(
        self,
        *,
        function: str | bytes | None = None,
        workload: bytes | str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """
        Return a task that differs in what is given.

        Args:
            function: As for :class:`Task`; ``None`` keeps it.
            workload: As for :class:`Task`; ``None`` keeps it.
            options: As for :class:`Task`; ``None`` removes a unique or a callback.

        Raises:
            ValueError: If Gearman cannot carry it.
            TypeError: If something has the wrong type, or an option does not exist.
        """
        spec = self._spec
        if function is not None or options:
            kept = list_options(spec.options, spec.unique, spec.callbacks)
            spec = TaskSpec(spec.function if function is None else function, {**kept, **options})
        return join_task(spec, self._workload if workload is None else encode_workload(workload))

    @property
    def function(self) -> str:
        """The function's name, without a client's prefix."""
        return self._spec.function

    @property
    def workload(self) -> bytes:
        """What the function is to work on."""
        return self._workload

    @property
    def unique(self) -> str | None:
        """The key by which equal work is merged, ``""`` for an empty one, or ``None``."""
        return None if self._spec.unique is None else self._spec.unique.decode("utf-8", "surrogateescape")

    @property
    def priority(self) -> Priority:
        """Which of the function's queues it enters."""
        return self._spec.options.priority

    @property
    def background(self) -> bool:
        """Whether it is a background job."""
        return self._spec.options.background

    @property
    def run_at(self) -> int | None:
        """The earliest time to run, in seconds since the epoch, or ``None``."""
        return None if self._spec.options.run_at is None else int(self._spec.options.run_at)

    @property
    def retry_count(self) -> int:
        """The maximum number of tries after the first one."""
        return self._spec.options.retry_count

    @property
    def timeout(self) -> float | None:
        """Seconds for the whole job, or ``None``."""
        return self._spec.options.timeout

    @property
    def try_timeout(self) -> float | None:
        """Seconds for one try, or ``None``."""
        return self._spec.options.try_timeout

    @property
    def require_worker(self) -> bool:
        """Whether it fails if no worker offers the function."""
        return self._spec.options.require_worker

    @property
    def callbacks(self) -> Mapping[str, Callable[..., object]]:
        """The callbacks by the names of their options; read-only."""
        return MappingProxyType(self._spec.callbacks)

    def __repr__(self) -> str:
        return f"<Task {self._spec.function} [{len(self._workload)} bytes]>"


def join_task(spec: TaskSpec, workload: bytes) -> Task:
    """Return a task of its two parts, which have been checked."""
    task = Task.__new__(Task)
    task._spec, task._workload = spec, workload
    return task


def spec_of(task: Task) -> TaskSpec:
    """Return what a task has in common with others."""
    return task._spec
