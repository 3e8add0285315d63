"""What a client asks for. A Task is immutable and may be submitted many times."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict, Unpack

from geartrain.checks import MAX_FUNCTION, check_count, check_flag, check_timeout, encode_name
from geartrain.handle import JobHandle
from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["MapOptions", "Priority", "Task", "TaskOptions", "check_unique", "encode_workload"]

MAX_UNIQUE: Final = 63  # gearmand accepts 64, but then never merges and shifts the workload by a NUL


class Priority(enum.Enum):
    """The three queues that a job server keeps for each function."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


Returned: TypeAlias = Awaitable[None] | None


class MapOptions(TypedDict, total=False):
    """The options of a :class:`Task` but for ``background``, as keywords."""

    unique: str | bytes | None
    priority: Priority
    run_at: datetime | float | None
    retry_count: int
    timeout: float | None
    try_timeout: float | None
    require_worker: bool
    on_created: Callable[[JobHandle], Returned] | None
    on_data: Callable[[bytes], Returned] | None
    on_warning: Callable[[bytes], Returned] | None
    on_status: Callable[[float, float], Returned] | None
    on_retry: Callable[[int], Returned] | None
    on_exception: Callable[[bytes], Returned] | None
    on_complete: Callable[[bytes], Returned] | None
    on_fail: Callable[[BaseException], Returned] | None


class TaskOptions(MapOptions, total=False):
    """The options of a :class:`Task`, as keywords."""

    background: bool


CALLBACKS: Final = tuple(name for name in TaskOptions.__annotations__ if name.startswith("on_"))

# (priority, background) -> packet. PROTOCOL, "Client Requests".
_KINDS: Final = {
    (Priority.HIGH, False): PacketType.SUBMIT_JOB_HIGH,
    (Priority.NORMAL, False): PacketType.SUBMIT_JOB,
    (Priority.LOW, False): PacketType.SUBMIT_JOB_LOW,
    (Priority.HIGH, True): PacketType.SUBMIT_JOB_HIGH_BG,
    (Priority.NORMAL, True): PacketType.SUBMIT_JOB_BG,
    (Priority.LOW, True): PacketType.SUBMIT_JOB_LOW_BG,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All of a task but its function and workload, checked, in the form in which it is used."""

    unique: bytes = b""
    priority: Priority = Priority.NORMAL
    background: bool = False
    epoch: bytes | None = None
    retry_count: int = 0
    timeout: float | None = None
    try_timeout: float | None = None
    require_worker: bool = False
    callbacks: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    # What follows from these, looked at for each job.
    kind: PacketType = PacketType.SUBMIT_JOB
    timed: bool = field(init=False)  # a deadline has to be kept
    keyed: bool = field(init=False)  # the packet holds more than function and workload
    plain: bool = field(init=False)  # nothing is to be seen to but the packet and the result

    def __post_init__(self) -> None:
        object.__setattr__(self, "timed", self.timeout is not None or self.try_timeout is not None)
        object.__setattr__(self, "keyed", bool(self.unique) or self.epoch is not None)
        plain = not (self.timed or self.keyed or self.callbacks or self.require_worker)
        object.__setattr__(self, "plain", plain)


class Task:
    """
    A piece of work to ask for: function, workload, options, callbacks.

    Args:
        function: The name under which workers registered it; 1 to 512 bytes of UTF-8 without NUL.
        workload: What it is to work on; opaque to Gearman. ``str`` is encoded as UTF-8.

    Keyword Args:
        unique: A key of up to 63 bytes by which a job server merges equal work into one job; ``"-"``: the workload
            itself is the key. Default: never merged.
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

    Callbacks are functions or coroutine functions. Those of one job run one after the other, in wire order, in the
    ``contextvars`` context of whoever submitted it. One that raises is reported to the loop's exception handler.

    Raises:
        ValueError: If Gearman cannot carry it.
        TypeError: If something is of the wrong type, or there is no such option.
    """

    __slots__ = ("__weakref__", "_function", "_options", "_workload")

    def __init__(self, function: str | bytes, workload: bytes | str = b"", **options: Unpack[TaskOptions]) -> None:
        self._function = (_check_function if type(function) is str else _check_function.__wrapped__)(function)
        self._workload = workload if type(workload) is bytes else encode_workload(workload)
        self._options = _get_options(options) if options else DEFAULT

    def with_workload(self, workload: bytes) -> Task:
        """Return a task that differs in its workload only."""
        task = Task.__new__(Task)
        task._function, task._workload, task._options = self._function, workload, self._options
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
        """The key by which equal work is merged, or ``None``."""
        return self._options.unique.decode("utf-8", "surrogateescape") or None

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
        return MappingProxyType(self._options.callbacks)

    def __repr__(self) -> str:
        return f"<Task {self._function} [{len(self._workload)} bytes]>"


@functools.lru_cache(maxsize=1024)  # an application has few functions and many tasks
def _check_function(function: str | bytes) -> str:
    encoded = encode_name("a function", function)
    if not 1 <= len(encoded) <= MAX_FUNCTION:
        raise ValueError(f"a function has 1 to {MAX_FUNCTION} bytes, got {len(encoded)} in {_brief(function)}")
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
    raise TypeError(f"a workload is bytes or str, got {_brief(workload)} of {type(workload).__name__}")


def check_unique(unique: str | bytes | None) -> bytes:
    """
    Return a unique as it goes on the wire, empty for none.

    Raises:
        TypeError: If it is neither ``str`` nor ``bytes``.
        ValueError: If it is too long or holds a NUL.
    """
    encoded = b"" if unique is None else encode_name("a unique", unique)
    if len(encoded) > MAX_UNIQUE:
        raise ValueError(f"a unique has at most {MAX_UNIQUE} bytes, got {len(encoded)} in {_brief(unique)}")
    return encoded


def _check_epoch(run_at: datetime | float | None, *, background: bool, priority: Priority) -> bytes | None:
    if run_at is None:
        return None
    if not background:
        raise ValueError(f"run_at needs background=True: nobody can wait for a job that is due later, got {run_at!r}")
    if priority is not Priority.NORMAL:
        raise ValueError(f"a job with run_at has normal priority, SUBMIT_JOB_EPOCH knows no other, got {priority!r}")
    from datetime import datetime  # few need it, and it takes a while to load

    if isinstance(run_at, datetime):
        if run_at.tzinfo is None:
            raise ValueError(f"run_at is an aware datetime, got {run_at!r} without a time zone")
        run_at = run_at.timestamp()
    if isinstance(run_at, bool) or not isinstance(run_at, int | float):
        raise TypeError(f"run_at is an aware datetime or seconds since 1970, got {run_at!r}")
    if not 0 <= run_at < 2**63:
        raise ValueError(f"run_at is seconds since 1970, below 2**63, got {run_at!r}")
    return b"%d" % math.ceil(run_at)  # whole seconds; up, so that it never runs too early


def _check_callbacks(options: TaskOptions) -> dict[str, Callable[..., object]]:
    callbacks: dict[str, Callable[..., object]] = {}
    for name in CALLBACKS:
        callback = options.get(name)
        if callback is not None:
            if not callable(callback):
                raise TypeError(f"{name} is a function or a coroutine function, got {callback!r}")
            callbacks[name] = callback
    return callbacks


def _make_options(options: TaskOptions) -> Options:
    unknown = options.keys() - TaskOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(TaskOptions.__annotations__)
        raise TypeError(f"a Task has no option {', '.join(sorted(unknown))}; it has {known}")
    priority = options.get("priority", Priority.NORMAL)
    if not isinstance(priority, Priority):
        raise ValueError(f"priority is one of {', '.join(map(str, Priority))}, got {priority!r}")
    background = check_flag("background", options.get("background", False))
    epoch = _check_epoch(options.get("run_at"), background=background, priority=priority)
    return Options(
        unique=check_unique(options.get("unique")),
        priority=priority,
        background=background,
        epoch=epoch,
        retry_count=check_count("retry_count", options.get("retry_count", 0), 0),
        timeout=check_timeout("timeout", options.get("timeout")),
        try_timeout=check_timeout("try_timeout", options.get("try_timeout")),
        require_worker=check_flag("require_worker", options.get("require_worker", False)),
        callbacks=_check_callbacks(options),
        kind=_KINDS[priority, background] if epoch is None else PacketType.SUBMIT_JOB_EPOCH,
    )


# Options that hold nothing of the user's, of which few combinations are in use: checked once, then shared.
_PLAIN: Final = frozenset({"priority", "background", "retry_count", "timeout", "try_timeout", "require_worker"})


_MAX_KNOWN: Final = 256
_known: dict[tuple[object, ...], Options] = {}


def _get_options(options: TaskOptions) -> Options:
    # With the types, since True must not pass for 1. By hand, since functools.lru_cache costs three times as much.
    if len(options) == 1:
        for name, value in options.items():
            key: tuple[object, ...] = name, value, value.__class__
    else:
        key = (*options, *options.values(), *map(type, options.values()))
    try:
        return _known[key]
    except (KeyError, TypeError):  # new, or with a value that cannot be hashed, which is no right one
        made = _make_options(options)
    if options.keys() <= _PLAIN:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = made
    return made


DEFAULT: Final = Options()


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
