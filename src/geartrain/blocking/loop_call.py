"""Calls of other threads in the event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from geartrain import ClientDisconnectedError

__all__ = ["CallHost", "CoroutineCall", "FutureCall", "LoopCall", "OnEnd"]

T = TypeVar("T")
OnEnd = Callable[[T | None, BaseException | None], None]
"""Called in the event loop with the result of a call, or ``None`` and what was raised."""


class CallHost(Protocol):
    """The thread of an event loop."""

    loop: asyncio.AbstractEventLoop
    is_exiting: bool

    def post(self, call: Callable[[], object]) -> bool:
        """Run a function in the event loop, without waiting; return ``False`` if the event loop has ended."""

    def forget(self, call: LoopCall[Any]) -> None:
        """Drop a call that has ended. Called in the event loop."""


class LoopCall(ABC, Generic[T]):
    """
    A call in the event loop.

    Args:
        host: The thread of the event loop.
        on_end: Called in the event loop at the end of the call.
    """

    __slots__ = ("_future", "_host", "_is_cancelled", "_on_end")

    def __init__(self, host: CallHost, on_end: OnEnd[T]) -> None:
        self._host = host
        self._on_end = on_end
        self._future: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def begin(self) -> None:
        """Start the call. Called in the event loop, in the context of the caller."""
        if self._is_cancelled:
            self._host.forget(self)
        else:
            self._start()

    @abstractmethod
    def _start(self) -> None:
        """Start the call, keep its future in ``_future``, and have :meth:`_end` called once, now or when it ends."""

    def _end(self, result: T | None, failure: BaseException | None) -> None:
        self._host.forget(self)
        if isinstance(failure, asyncio.CancelledError):
            failure = ClientDisconnectedError("the call was cancelled, because its event loop has ended")
        if not self._host.is_exiting:
            self._on_end(result, failure)

    def cancel(self) -> None:
        """Cancel the call. May be called in any thread."""
        self._is_cancelled = True
        self._host.post(self._cancel)

    def _cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def abandon(self, error: BaseException) -> None:
        """End the wait for a call that will never end, and do not begin it."""
        self._is_cancelled = True
        if not self._host.is_exiting:
            self._on_end(None, error)


class CoroutineCall(LoopCall[T]):
    """
    Runs a coroutine.

    Args:
        host: The thread of the event loop.
        call: Makes the coroutine, in the event loop.
        on_end: Called in the event loop at its end.
    """

    __slots__ = ("_call",)

    def __init__(self, host: CallHost, call: Callable[[], Coroutine[Any, Any, T]], on_end: OnEnd[T]) -> None:
        super().__init__(host, on_end)
        self._call = call

    def _start(self) -> None:
        self._future = self._host.loop.create_task(self._run())

    async def _run(self) -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = await self._call()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the thread that waits
            failure = error
        try:
            self._end(result, failure)
        finally:
            del failure  # its traceback refers to this frame


class FutureCall(LoopCall[T]):
    """
    Waits for a future, which takes no task.

    Args:
        host: The thread of the event loop.
        call: Returns the future; called in the event loop.
        on_end: Called in the event loop when the future is done.
    """

    __slots__ = ("_call",)

    def __init__(self, host: CallHost, call: Callable[[], asyncio.Future[T]], on_end: OnEnd[T]) -> None:
        super().__init__(host, on_end)
        self._call = call

    def _start(self) -> None:
        try:
            self._future = self._call()
        except BaseException as error:  # noqa: BLE001  # it is raised again in the thread that waits
            self._end(None, error)
        else:
            self._future.add_done_callback(self._on_done)

    def _on_done(self, future: asyncio.Future[T]) -> None:
        self._future = None  # its error refers to the frame that refers to this object
        if future.cancelled():
            self._end(None, asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            self._end(None, error)
        else:
            self._end(future.result(), None)
