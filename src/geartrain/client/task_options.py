"""Checks the options of tasks, and shares those that many tasks have in common."""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict, cast

from geartrain.protocol.packets import PacketType
from geartrain.validation import check_count, check_flag, check_timeout, encode_name, shorten

if TYPE_CHECKING:
    from datetime import datetime

    from geartrain.handle import JobHandle

__all__ = [
    "DEFAULT",
    "NO_CALLBACKS",
    "CallbackMap",
    "MapOptions",
    "Priority",
    "SubmitOptions",
    "TaskOptions",
    "check_unique",
    "list_options",
    "make_key",
    "read_options",
]


MAX_UNIQUE: Final = 63  # gearmand accepts 64, but then does not merge, and shifts the workload by a NUL


class Priority(enum.Enum):
    """The three queues that a job server keeps for each function."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


Returned: TypeAlias = Awaitable[None] | None


class MapOptions(TypedDict, total=False):
    """The options of a :class:`Task` except ``background``, as keywords."""

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


CALLBACKS: Final = frozenset(name for name in TaskOptions.__annotations__ if name.startswith("on_"))
_ONES_OWN: Final = CALLBACKS | {"unique"}  # not shared by tasks

# (priority, background) -> packet. PROTOCOL, "Client Requests".
_KINDS: Final = {
    (Priority.HIGH, False): PacketType.SUBMIT_JOB_HIGH,
    (Priority.NORMAL, False): PacketType.SUBMIT_JOB,
    (Priority.LOW, False): PacketType.SUBMIT_JOB_LOW,
    (Priority.HIGH, True): PacketType.SUBMIT_JOB_HIGH_BG,
    (Priority.NORMAL, True): PacketType.SUBMIT_JOB_BG,
    (Priority.LOW, True): PacketType.SUBMIT_JOB_LOW_BG,
}

CallbackMap: TypeAlias = Mapping[str, Callable[..., object]]
NO_CALLBACKS: Final[CallbackMap] = {}


class SubmitOptions:
    """
    The options that many tasks share, checked and immutable.

    Attributes:
        run_at: The argument of SUBMIT_JOB_EPOCH, or ``None``.
        packet_type: With which a task is submitted.
        has_timeout: There is a timeout for the job or for each try.
        is_light: There is no more to it than a packet, a result and a timeout for the job.
    """

    # Read several times for each job; in a NamedTuple that would take three times as long.
    __slots__ = (
        "background",
        "has_timeout",
        "is_light",
        "packet_type",
        "priority",
        "require_worker",
        "retry_count",
        "run_at",
        "timeout",
        "try_timeout",
    )

    def __init__(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        background: bool = False,
        run_at: bytes | None = None,
        retry_count: int = 0,
        timeout: float | None = None,
        try_timeout: float | None = None,
        require_worker: bool = False,
    ) -> None:
        self.priority: Priority = priority
        self.background: bool = background
        self.run_at: bytes | None = run_at
        self.retry_count: int = retry_count
        self.timeout: float | None = timeout
        self.try_timeout: float | None = try_timeout
        self.require_worker: bool = require_worker
        self.packet_type: PacketType = _KINDS[priority, background] if run_at is None else PacketType.SUBMIT_JOB_EPOCH
        self.has_timeout: bool = timeout is not None or try_timeout is not None
        self.is_light: bool = try_timeout is None and not require_worker and run_at is None


def check_unique(unique: str | bytes) -> bytes:
    """
    Return a unique as it goes on the wire.

    Raises:
        TypeError: If it is neither ``str`` nor ``bytes``.
        ValueError: If it is too long or contains a NUL.
    """
    encoded = encode_name("a unique", unique)
    if len(encoded) > MAX_UNIQUE:
        raise ValueError(f"a unique must have at most {MAX_UNIQUE} bytes, got {len(encoded)} in {shorten(unique)}")
    return encoded


def _check_epoch(run_at: datetime | float | None, *, background: bool, priority: Priority) -> bytes | None:
    if run_at is None:
        return None
    if not background:
        raise ValueError(f"run_at requires background=True, got run_at={run_at!r} without it")
    if priority is not Priority.NORMAL:
        raise ValueError(
            f"a job with run_at must have normal priority, because SUBMIT_JOB_EPOCH has no other, got {priority!r}"
        )
    from datetime import datetime  # most programs do not need it, and loading it takes time

    if isinstance(run_at, datetime):
        if run_at.tzinfo is None:
            raise ValueError(f"run_at must be an aware datetime, got {run_at!r} without a time zone")
        run_at = run_at.timestamp()
    if isinstance(run_at, bool) or not isinstance(run_at, int | float):
        raise TypeError(f"run_at must be an aware datetime or seconds since 1970, got {run_at!r}")
    if not 0 <= run_at < 2**63:
        raise ValueError(f"run_at must be between 0 and 2**63 seconds since 1970, got {run_at!r}")
    return b"%d" % math.ceil(run_at)  # whole seconds, rounded up so that it never runs too early


def _make_options(options: TaskOptions) -> SubmitOptions:
    unknown = options.keys() - TaskOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(TaskOptions.__annotations__)
        raise TypeError(f"a Task has no option {', '.join(sorted(unknown))}; it has {known}")
    priority = options.get("priority", Priority.NORMAL)
    if not isinstance(priority, Priority):
        raise ValueError(f"priority must be one of {', '.join(map(str, Priority))}, got {priority!r}")
    background = check_flag("background", options.get("background", False))
    return SubmitOptions(
        priority=priority,
        background=background,
        run_at=_check_epoch(options.get("run_at"), background=background, priority=priority),
        retry_count=check_count("retry_count", options.get("retry_count", 0), 0),
        timeout=check_timeout("timeout", options.get("timeout")),
        try_timeout=check_timeout("try_timeout", options.get("try_timeout")),
        require_worker=check_flag("require_worker", options.get("require_worker", False)),
    )


DEFAULT: Final = SubmitOptions()
_MAX_KNOWN: Final = 256
_known: dict[tuple[object, ...], SubmitOptions] = {}


def read_options(options: TaskOptions) -> tuple[SubmitOptions, bytes | None, CallbackMap]:
    """
    Check options; return the shared ones, the unique or ``None``, and the callbacks by the names of their options.

    Raises:
        ValueError: If Gearman cannot carry them.
        TypeError: If something has the wrong type, or an option does not exist.
    """
    if _ONES_OWN.isdisjoint(options):
        return _share(options), None, NO_CALLBACKS
    unique: bytes | None = None
    callbacks: dict[str, Callable[..., object]] = {}
    common: dict[str, object] = {}
    for name, value in options.items():
        if name in CALLBACKS:
            if value is not None:
                callbacks[name] = _check_callback(name, value)
        elif name == "unique":
            given = options["unique"]
            unique = check_unique(given) if given is not None else None
        else:
            common[name] = value
    return _share(cast("TaskOptions", common)) if common else DEFAULT, unique, callbacks


def list_options(shared: SubmitOptions, unique: bytes | None, callbacks: CallbackMap) -> TaskOptions:
    """Return options as users write them, from what :func:`read_options` has returned."""
    listed: dict[str, object] = {
        "priority": shared.priority,
        "background": shared.background,
        "retry_count": shared.retry_count,
        "timeout": shared.timeout,
        "try_timeout": shared.try_timeout,
        "require_worker": shared.require_worker,
        "unique": unique,
        **callbacks,
    }
    if shared.run_at is not None:  # without, equal options are found again
        listed["run_at"] = int(shared.run_at)
    return cast("TaskOptions", listed)


def _check_callback(name: str, callback: object) -> Callable[..., object]:
    if not callable(callback):
        raise TypeError(f"{name} must be a function or a coroutine function, got {callback!r}")
    return callback


def _share(options: TaskOptions) -> SubmitOptions:
    """Return the object for equal options that were checked before, or check them."""
    # Few combinations are in use. Each is checked once, and looking it up takes 0.2 us.
    key = make_key(None, options)
    try:
        found = _known.get(key)
    except TypeError:  # a value cannot be hashed: checking it raises the error
        found = None
    if found is not None:
        return found
    made = _make_options(options)
    if "run_at" not in options:  # which may differ for each task
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = made
    return made


def make_key(function: str | None, options: TaskOptions) -> tuple[object, ...]:
    """Return a key that is equal for equal arguments; it cannot be hashed if an argument cannot."""
    # With the types, because True must not pass for 1. Not functools.lru_cache, which costs three times as much.
    if len(options) == 1:
        [(name, value)] = options.items()
        return function, name, value, value.__class__
    return (function, *options, *options.values(), *map(type, options.values()))
