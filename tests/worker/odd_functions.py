"""
Functions of every kind that raise or return what the workload names: all that is hard to describe or to send.

Processes import them from here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from geartrain.errors import JobFailedError
from geartrain.worker import WorkerJob


class WordlessError(Exception):
    def __str__(self) -> str:
        raise AttributeError("an attribute that __init__ did not set")


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class ReprError(Exception):
    def __repr__(self) -> str:
        raise AttributeError("no repr")


class LyingStr(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise AttributeError("no length")

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise AttributeError("no bytes")


class LyingStrError(Exception):
    def __str__(self) -> str:
        return LyingStr("text")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise AttributeError("no name")


class NamelessError(Exception, metaclass=Nameless):
    pass


class ClassError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise AttributeError("no class")


class NotesError(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise OSError("no notes")


class PanicError(BaseException):
    """Like the panics of Rust extensions."""


class UnpicklableError(Exception):
    """Cannot be unpickled, since only one argument is kept."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class DoublingError(Exception):
    """Becomes a different exception when it is pickled."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


class OtherError(Exception):
    """Becomes an object that is not an exception when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("not an exception",)


class UnpicklableFailedError(JobFailedError):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


MEGABYTE: Final = 1024 * 1024

# StopIteration is tested separately: no coroutine can raise it.
ERRORS: Final[dict[str, tuple[Callable[[], BaseException], bytes]]] = {
    "no __str__": (WordlessError, b"WordlessError: <__str__ raised AttributeError>"),
    "__str__ exits": (ExitingError, b"ExitingError: <__str__ raised SystemExit>"),
    "no __repr__": (lambda: ReprError("text"), b"ReprError: text"),
    "nested": (lambda: ValueError([WordlessError(), ReprError()]), b"ValueError: <__str__ raised AttributeError>"),
    "__str__ lies": (LyingStrError, b"LyingStrError: text"),
    "no __name__": (lambda: NamelessError("text"), b"NamelessError: text"),
    "no __class__": (lambda: ClassError("text"), b"ClassError: text"),
    "no __notes__": (lambda: NotesError("text"), b"NotesError: text"),
    "surrogates": (lambda: ValueError("\udcff\ud800"), rb"ValueError: \udcff\ud800"),
    "escapes": (lambda: ValueError("\x1b[2J\0"), b"ValueError: \x1b[2J\0"),
    "a megabyte": (lambda: ValueError("x" * MEGABYTE), b"ValueError: " + b"x" * 8192 + b"... [1048576 characters]"),
    "group": (
        lambda: ExceptionGroup("several", [ValueError("one"), WordlessError()]),
        b"ExceptionGroup: several (2 sub-exceptions)",
    ),
    "base group": (
        lambda: BaseExceptionGroup("several", [KeyboardInterrupt(), SystemExit(3)]),
        b"BaseExceptionGroup: several (2 sub-exceptions)",
    ),
    "SystemExit": (lambda: SystemExit(3), b"SystemExit: 3"),
    "KeyboardInterrupt": (lambda: KeyboardInterrupt("own"), b"KeyboardInterrupt: own"),
    "GeneratorExit": (lambda: GeneratorExit("own"), b"GeneratorExit: own"),
    "CancelledError": (lambda: asyncio.CancelledError("own"), b"CancelledError: own"),
    "futures.CancelledError": (lambda: concurrent.futures.CancelledError("own"), b"CancelledError: own"),
    "TimeoutError": (lambda: TimeoutError("own"), b"TimeoutError: own"),
    "StopAsyncIteration": (lambda: StopAsyncIteration("own"), b"StopAsyncIteration: own"),
    "PanicError": (lambda: PanicError("text"), b"PanicError: text"),
    "unpicklable": (lambda: UnpicklableError("this", "that"), b"UnpicklableError: this and that"),
    "doubling": (lambda: DoublingError("thing"), b"DoublingError: no thing"),
    "other": (lambda: OtherError("text"), b"OtherError: text"),
}
"""By workload: what is raised, and what the client receives."""

FAILURES: Final[dict[str, tuple[Callable[[], BaseException], bytes]]] = {
    "failed": (lambda: JobFailedError("no"), b"no"),
    "unpicklable failed": (lambda: UnpicklableFailedError("this", "that"), b"this and that"),
    "a megabyte failed": (lambda: JobFailedError("x" * MEGABYTE), b"x" * 8192 + b"... [1048576 characters]"),
    "surrogates failed": (lambda: JobFailedError("\udcff"), rb"\udcff"),
}
"""By workload: what is raised, and the reason that the client receives."""


class Unreadable:
    def __repr__(self) -> str:
        raise AttributeError("no repr")

    __str__ = __repr__


class NamelessResult(metaclass=Nameless):
    pass


class PretendedBytes:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return bytes


class LyingBytes(bytes):
    def __len__(self) -> int:
        return 1


RESULTS: Final[dict[str, tuple[Callable[[], Any], tuple[str, bytes]]]] = {
    "5": (lambda: 5, ("WORK_EXCEPTION", b"TypeError: {what} is bytes or text, got int")),
    "unreadable": (Unreadable, ("WORK_EXCEPTION", b"TypeError: {what} is bytes or text, got Unreadable")),
    "nameless": (NamelessResult, ("WORK_EXCEPTION", b"TypeError: {what} is bytes or text, got NamelessResult")),
    "an exception": (
        WordlessError,
        ("WORK_EXCEPTION", b"TypeError: {what} is bytes or text, got WordlessError"),
    ),
    "pretended": (
        PretendedBytes,
        ("WORK_EXCEPTION", b"TypeError: memoryview: a bytes-like object is required, not 'PretendedBytes'"),
    ),
    "lying bytes": (lambda: LyingBytes(b"abc"), ("{data}", b"abc")),
    "lying str": (lambda: LyingStr("abc"), ("{data}", b"abc")),
    "surrogate": (
        lambda: "\ud800",
        (
            "WORK_EXCEPTION",
            b"UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed",
        ),
    ),
}
"""By workload: what is returned or yielded, and the packet for the client."""


def act(job: WorkerJob) -> Any:
    name = job.workload.decode()
    if name in RESULTS:
        return RESULTS[name][0]()
    make_error, _ = (ERRORS | FAILURES)[name]
    raise make_error()


async def coroutine(job: WorkerJob) -> Any:
    return act(job)


async def async_generator(job: WorkerJob) -> AsyncGenerator[Any, None]:
    yield act(job)


def plain(job: WorkerJob) -> Any:
    return act(job)


def generator(job: WorkerJob) -> Generator[Any, None, None]:
    yield act(job)


def awaitable(job: WorkerJob) -> Any:
    return coroutine(job)
