"""The functions of a worker."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from geartrain.validation import MAX_FUNCTION, check_count, check_seconds, check_timeout, encode_name, shorten
from geartrain.worker.exceptions import format_exception
from geartrain.worker.job import WorkerJob
from geartrain.worker.results import send_chunks

__all__ = [
    "AnyFunction",
    "Chunk",
    "Function",
    "FunctionKind",
    "FunctionOptions",
    "Invoker",
    "OnTimeout",
    "Result",
    "check_has_name",
    "run_blocking",
]

Chunk: TypeAlias = bytes | bytearray | memoryview | str
Result: TypeAlias = Chunk | None

AnyFunction: TypeAlias = (
    Callable[[WorkerJob], Awaitable[Result]]
    | Callable[[WorkerJob], AsyncGenerator[Chunk, None]]
    | Callable[[WorkerJob], Generator[Chunk, None, Result]]
    | Callable[[WorkerJob], Result]
)
"""The callables that may be decorated."""

Invoker: TypeAlias = Callable[[WorkerJob], Awaitable[Any]]
"""Runs a job in the event loop, whatever the kind of its function. The result is checked when it is sent."""

OnTimeout: TypeAlias = Literal["exception", "fail"]

_LEAST_CAN_DO = 1000  # milliseconds; gearmand treats less as 1000
_MOST_CAN_DO = 2**31 - 1  # milliseconds; gearmand crashes at much more


class FunctionKind(enum.Enum):
    """The kind of a function, which decides how it is run."""

    COROUTINE = "async def"
    ASYNC_GENERATOR = "async def with yield"
    GENERATOR = "def with yield"
    PLAIN = "def"

    @classmethod
    def of(cls, call: object) -> FunctionKind:
        """
        Return the kind of a function, a partial of one, or an object with ``__call__``.

        A ``def`` that returns a coroutine or a generator is ``PLAIN``; how to handle its result is decided when it
        has returned. Decorators are not unwrapped: the wrapper of an ``async def`` may block.
        """
        while isinstance(call, functools.partial):
            call = call.func
        tests: tuple[tuple[Callable[[object], bool], FunctionKind], ...] = (
            (inspect.isasyncgenfunction, FunctionKind.ASYNC_GENERATOR),
            (inspect.iscoroutinefunction, FunctionKind.COROUTINE),
            (inspect.isgeneratorfunction, FunctionKind.GENERATOR),
        )
        for is_kind, kind in tests:
            if is_kind(call) or is_kind(getattr(type(call), "__call__", None)):  # noqa: B004
                return kind
        return FunctionKind.PLAIN

    @property
    def in_loop(self) -> bool:
        """Whether the function runs in the event loop."""
        return self in (FunctionKind.COROUTINE, FunctionKind.ASYNC_GENERATOR)


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """
    The validated options of a function.

    Attributes:
        name: The name without the prefix.
        ability: The name with the prefix, as the job servers know it.
        timeout: The timeout of a job in seconds, or ``None``.
        on_timeout: How a job that times out ends.
        can_do_timeout: The timeout for CAN_DO_TIMEOUT in milliseconds, or ``None`` to register with CAN_DO.
        processes: How many processes run it, or ``None``.
    """

    name: str
    ability: bytes
    timeout: float | None
    on_timeout: OnTimeout
    can_do_timeout: int | None
    processes: int | None

    @classmethod
    def make(
        cls,
        name: str,
        prefix: bytes,
        *,
        timeout: float | None,
        on_timeout: OnTimeout,
        can_do_timeout: float | None,
        processes: int | None,
    ) -> FunctionOptions:
        """
        Validate options.

        Raises:
            TypeError: If the name is not a string, or a time is not a number.
            ValueError: If the name is not valid in Gearman, or another value is out of range.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a function is text, got {name!r}")
        ability = prefix + encode_name("the name of a function", name)
        if not name or len(ability) > MAX_FUNCTION:
            raise ValueError(
                f"the name of a function must have 1 to {MAX_FUNCTION} bytes with its prefix, "
                f"got {len(ability)} in {shorten(name)}"
            )
        if on_timeout not in get_args(OnTimeout):
            raise ValueError(f"on_timeout must be 'exception' or 'fail', got {on_timeout!r}")
        return cls(
            name,
            ability,
            check_timeout("timeout", timeout),
            on_timeout,
            None if can_do_timeout is None else _milliseconds(can_do_timeout),
            None if processes is None else check_count("processes", processes, 1),
        )


@dataclass(frozen=True, slots=True)
class Function(FunctionOptions):
    """
    A registered function.

    Attributes:
        target: The decorated callable.
        kind: The kind of the callable.
    """

    target: Callable[[WorkerJob], Any]
    kind: FunctionKind

    @classmethod
    def bind(cls, options: FunctionOptions, call: AnyFunction) -> Function:
        """
        Create a function from its options.

        Raises:
            TypeError: If ``call`` is not callable, or cannot run in processes as the options say.
        """
        if not callable(call):
            raise TypeError(f"{options.name!r} needs a function, got {call!r}")
        kind = FunctionKind.of(call)
        if options.processes is not None:
            if kind.in_loop:
                raise TypeError(f"{options.name!r} runs in the loop, not in processes, got {call!r}")
            check_has_name(repr(options.name), call)
        values = {field.name: getattr(options, field.name) for field in fields(options)}
        return cls(**values, target=call, kind=kind)

    def make_timeout_error(self) -> TimeoutError:
        """Return the error of a job that has timed out."""
        return TimeoutError(f"{self.name!r} took longer than {self.timeout:g} s")

    def check_picklable(self) -> None:
        """
        Check that a function for processes can be sent to them.

        Raises:
            TypeError: If it cannot be pickled.
        """
        if self.processes is not None:
            import pickle  # few workers need it

            try:
                pickle.dumps(self)
            except Exception as error:
                raise TypeError(f"{_no_name(repr(self.name))}: {error}") from error


def check_has_name(name: str, call: object) -> None:
    """
    Refuse a function for processes that can never be pickled.

    Only pickling shows whether it can be, but while a decorator runs, the module does not have the function yet.

    Raises:
        TypeError: If it is a lambda or a local function.
    """
    while isinstance(call, functools.partial):
        call = call.func
    qualified_name = getattr(call, "__qualname__", None)
    if isinstance(qualified_name, str) and "<" in qualified_name:  # <lambda> or <locals>
        raise TypeError(f"{_no_name(name)}, got {call!r}")


def _no_name(name: str) -> str:
    return f"{name} runs in processes, so it has to be a function that a module has by name"


def run_blocking(function: Function, job: WorkerJob) -> object:
    """Call a function that may block; send the chunks of a generator that it returns, and return its result."""
    try:
        result: Any = function.target(job)
        if inspect.isgenerator(result) and not inspect.isawaitable(result):
            return send_chunks(result, job)
    except StopIteration as error:
        # Neither a coroutine nor a future can raise StopIteration; in a coroutine it becomes RuntimeError (PEP 479).
        raise RuntimeError(f"a function raised {format_exception(error)}") from error
    return result


def _milliseconds(can_do_timeout: float) -> int:
    milliseconds = check_seconds("can_do_timeout", can_do_timeout) * 1000  # may be infinite, which cannot be rounded
    if not _LEAST_CAN_DO <= milliseconds <= _MOST_CAN_DO:
        raise ValueError(f"can_do_timeout must be from 1 second to 24 days, got {can_do_timeout!r}")
    return round(milliseconds)
