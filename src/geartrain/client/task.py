"""What a client asks for. A Task is immutable and may be submitted many times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Unpack

from geartrain.checks import MAX_FUNCTION, brief, encode_name
from geartrain.client.task_options import (
    DEFAULT,
    NO_CALLBACKS,
    MapOptions,
    Priority,
    TaskOptions,
    check_unique,
    make_key,
    read_options,
)

__all__ = ["MapOptions", "Priority", "Task", "TaskOptions", "check_unique", "encode_workload", "find_task"]


class Task:
    """
    A piece of work to ask for: function, workload, options, callbacks.

    Args:
        function: The name under which workers registered it; 1 to 512 bytes of UTF-8 without NUL.
        workload: What it is to work on; opaque to Gearman. ``str`` is encoded as UTF-8.

    Keyword Args:
        unique: A key of up to 63 bytes by which a job server merges equal work into one job; ``"-"``: the workload
            itself is the key. Default: never merged; a background job then gets a generated one, see below. ``""``
            sends an empty one.
        priority: Which of the function's three queues it goes to.
        background: Not to wait for the result: the job is done, with ``b""``, as soon as the job server has it.
        run_at: With ``background``: not to run before then. An aware ``datetime`` or seconds since the epoch.
        retry_count: How many more tries there may be after the first one failed or was lost with its connection.
        timeout: Seconds for all of it, from submission to result, retries included.
        try_timeout: Seconds for one try, from being sent to its end.
        require_worker: Fail at once with :class:`NoWorkersError` if no job server that can be asked has a worker for
            the function, instead of waiting for one. Each job server is asked at most once a second.
        on_created: Called with the :class:`JobHandle`, for each try that a job server accepted.
        on_data: Called with the body of each WORK_DATA.
        on_warning: Called with the body of each WORK_WARNING.
        on_status: Called with numerator and denominator of each WORK_STATUS, ``int``, or ``float`` for a fraction.
        on_retry: Called with the number of the retry, from 1.
        on_exception: Called with the body of a WORK_EXCEPTION.
        on_complete: Called last, with the result.
        on_fail: Called last, with the error: what ``await job`` would raise.

    A background job without a unique is sent with a generated one of 16 characters, the same for each of its tries. A
    gearmand with a persistent queue stores one job for each function and unique, and would lose the others when it is
    restarted. It does not influence which job server gets the job. It is available as ``JobHandle.unique``.

    Callbacks are functions or coroutine functions. Those of one job run one after the other, in wire order, in the
    ``contextvars`` context of whoever submitted it. One that raises is reported to the loop's exception handler.

    Raises:
        ValueError: If Gearman cannot carry it.
        TypeError: If something is of the wrong type, or there is no such option.
    """

    # `_plain`: nothing is to be seen to but its packet, its result and the time for all of it.
    # `_is_anonymous`: it is to be sent with a generated unique.
    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_function",
        "_is_anonymous",
        "_options",
        "_plain",
        "_unique",
        "_workload",
    )

    def __init__(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> None:
        self._function = (_check_function if type(function) is str else _check_function.__wrapped__)(function)
        self._workload = workload if type(workload) is bytes else encode_workload(workload)
        if options:
            self._options, self._unique, self._callbacks = read_options(options)
            self._plain = self._options.light and not self._unique and not self._callbacks
            self._is_anonymous = self._unique is None and self._options.background
        else:
            self._options, self._unique, self._callbacks, self._plain = DEFAULT, None, NO_CALLBACKS, True
            self._is_anonymous = False

    def with_workload(self, workload: bytes) -> Task:
        """Return a task that differs in its workload only."""
        task = Task.__new__(Task)
        task._function, task._workload, task._options = self._function, workload, self._options
        task._unique, task._callbacks, task._plain = self._unique, self._callbacks, self._plain
        task._is_anonymous = self._is_anonymous
        return task

    @property
    def function(self) -> str:
        """The function's name, without a client's prefix."""
        return self._function

    @property
    def workload(self) -> bytes:
        """What the function is to work on."""
        return self._workload

    @property
    def unique(self) -> str | None:
        """The key by which equal work is merged, ``""`` for an empty one, or ``None``."""
        return None if self._unique is None else self._unique.decode("utf-8", "surrogateescape")

    @property
    def priority(self) -> Priority:
        """Which of the function's queues it goes to."""
        return self._options.priority

    @property
    def background(self) -> bool:
        """Whether nobody waits for the result."""
        return self._options.background

    @property
    def run_at(self) -> int | None:
        """The second since the epoch before which it is not to run, or ``None``."""
        return None if self._options.epoch is None else int(self._options.epoch)

    @property
    def retry_count(self) -> int:
        """How many tries there may be after the first."""
        return self._options.retry_count

    @property
    def timeout(self) -> float | None:
        """Seconds for all of it."""
        return self._options.timeout

    @property
    def try_timeout(self) -> float | None:
        """Seconds for one try."""
        return self._options.try_timeout

    @property
    def require_worker(self) -> bool:
        """Whether it fails where no worker is there."""
        return self._options.require_worker

    @property
    def callbacks(self) -> Mapping[str, Callable[..., object]]:
        """The callbacks, by the names of their options. It cannot be changed."""
        return MappingProxyType(self._callbacks)

    def __repr__(self) -> str:
        return f"<Task {self._function} [{len(self._workload)} bytes]>"


def find_task(function: str | bytes, options: TaskOptions) -> Task:
    """
    Return the task without a workload that all calls with these arguments have in common.

    Raises:
        ValueError: As :class:`Task` does.
        TypeError: As :class:`Task` does.
    """
    # To make one takes 0.2 us, and 0.5 with an option.
    key: object = function
    if type(function) is str:  # and not bytes, which would be taken for the same key
        if options:
            key = make_key(function, options)
        try:
            found = _found.get(key)
        except TypeError:  # a value cannot be hashed: a callback, or a mistake
            found = None
        if found is not None:
            return found
    task = Task(function, b"", **options)
    if type(function) is str and not (task._unique or task._callbacks or task._options.epoch):
        if len(_found) >= _MAX_FOUND:
            _found.clear()
        _found[key] = task
    return task


_found: dict[object, Task] = {}
_MAX_FOUND: Final = 1024  # an application has few functions, and names that are made up for each job must not pile up


@functools.lru_cache(maxsize=1024)  # an application has few functions and many tasks
def _check_function(function: str | bytes) -> str:
    encoded = encode_name("a function", function)
    if not 1 <= len(encoded) <= MAX_FUNCTION:
        raise ValueError(f"a function has 1 to {MAX_FUNCTION} bytes, got {len(encoded)} in {brief(function)}")
    return encoded.decode("utf-8", "surrogateescape")


def encode_workload(workload: object) -> bytes:
    """
    Return a workload as it goes on the wire.

    Raises:
        TypeError: If it is neither ``str`` nor bytes of any sort.
    """
    if isinstance(workload, str):
        return workload.encode()
    if isinstance(workload, bytes | bytearray | memoryview):
        return bytes(workload)
    raise TypeError(f"a workload is bytes or str, got {brief(workload)} of {type(workload).__name__}")
