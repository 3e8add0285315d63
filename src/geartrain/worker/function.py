"""A function that a worker offers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from geartrain.checks import MAX_FUNCTION, encode_name
from geartrain.worker.job import WorkerJob

__all__ = ["AsyncFunction", "Function", "Result"]

Result: TypeAlias = bytes | bytearray | memoryview | str | None
AsyncFunction: TypeAlias = Callable[[WorkerJob], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Function:
    """
    A function, checked.

    Attributes:
        name: As the worker's user says it.
        ability: As the job servers know it, behind the prefix.
        call: What runs the job.
    """

    name: str
    ability: bytes
    call: AsyncFunction

    @classmethod
    def make(cls, name: str, call: AsyncFunction, prefix: bytes) -> Function:
        """
        Check a name and what is to run under it.

        Raises:
            TypeError: If the name is no text, or ``call`` no coroutine function.
            ValueError: If Gearman cannot carry the name.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a function is text, got {name!r}")
        ability = prefix + encode_name("the name of a function", name)
        if not name or len(ability) > MAX_FUNCTION:
            raise ValueError(
                f"the name of a function has 1 to {MAX_FUNCTION} bytes with its prefix, got {len(ability)} in {name!r}"
            )
        if not callable(call) or not is_coroutine_function(call):
            raise TypeError(f"{name!r} needs a coroutine function (async def), got {call!r}")
        return cls(name, ability, call)


def is_coroutine_function(call: Callable[..., object]) -> bool:
    """Whether calling it gives a coroutine: ``async def``, a partial of one, an object with ``async def __call__``."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)
