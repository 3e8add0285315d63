"""One object of the asyncio interface, which lives in the event loop's thread."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from geartrain import LocalProtocolError
from geartrain.blocking.loop_thread import LoopThread
from geartrain.blocking.shared_thread import get_loop_thread, release

__all__ = ["Closeable", "Outstanding", "Owner", "Resident"]

P = ParamSpec("P")
T = TypeVar("T")


A = TypeVar("A")


class Outstanding(Protocol):
    """A future that must not stay pending if the event loop is gone."""

    def abandon(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""


async def _do_nothing(_: object) -> None:
    pass


class Resident(Generic[A]):
    """
    An object of the asyncio interface that any thread may use.

    It is created on first use, and again on the first use after :meth:`close` or in a forked process.

    Args:
        make: Creates the object.
        close: Closes it.
        flush: Waits until the job servers have received what was submitted to it.

    Attributes:
        make: As given; replace it if a later object must be different.
        outstanding: Ended with an error if the event loop is gone. Any thread may add to it.
    """

    def __init__(
        self,
        make: Callable[[], A],
        close: Callable[[A], Coroutine[Any, Any, None]],
        flush: Callable[[A], Coroutine[Any, Any, None]] = _do_nothing,
    ) -> None:
        self.make: Callable[[], A] = make
        self.outstanding: set[Outstanding] = set()
        self._close = close
        self._flush = flush
        self._closed: str | None = None
        self._instance: A | None = None
        self._thread: LoopThread | None = None

    @property
    def instance(self) -> A:
        """The object. Outside the event loop use only what may be used from any thread."""
        if self._instance is None:
            self._instance = self.make()
        return self._instance

    @property
    def is_open(self) -> bool:
        """Whether it was used in the event loop, and has not been closed since."""
        return self._thread is not None

    def check_open(self) -> None:
        """Raise LocalProtocolError if it is closed for good."""
        if self._closed is not None:
            raise LocalProtocolError(self._closed)

    def get_thread(self) -> LoopThread:
        """
        Return the thread of the event loop; start it if necessary.

        Raises:
            LocalProtocolError: If no thread can be started, or it is closed for good.
        """
        self.check_open()
        thread = self._thread
        if thread is None or not thread.is_usable:
            thread = self._thread = get_loop_thread(self)
        return thread

    def call(self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call a coroutine method of the object in the event loop, and wait for its result.

        Raises:
            LocalProtocolError: If it is called in the event loop.
        """
        return self.get_thread().call(method, self.instance, *args, **kwargs)

    def wait_for(self, method: Callable[Concatenate[A, P], asyncio.Future[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call a method of the object in the event loop, and wait for the future that it returns.

        Raises:
            LocalProtocolError: If it is called in the event loop.
        """
        return self.get_thread().wait_for(method, self.instance, *args, **kwargs)

    def run(self, method: Callable[Concatenate[A, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the object in the event loop, and wait for its result; raises as :meth:`call`."""

        async def run() -> T:
            return method(self.instance, *args, **kwargs)

        return self.get_thread().call(run)

    def close(self, for_good: str | None = None) -> None:
        """
        Close the object, and end the thread if nothing else needs it.

        Args:
            for_good: The error of any later use, if there may be none.
        """
        thread = self._thread
        if thread is not None:
            thread.check_may_wait()
        self._closed = for_good
        if thread is None:
            return
        thread.call(self.shut_down)
        self._thread = None
        release(thread, self)

    def close_later(self) -> None:
        """Do the same without waiting."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.spawn(self.shut_down, lambda _, __: release(thread, self))

    # Dependent.

    async def flush(self) -> None:
        """Wait until the job servers have received what was submitted."""
        if self._instance is not None:
            await self._flush(self._instance)

    async def shut_down(self) -> None:
        """Close the object."""
        if self._instance is not None:
            await self._close(self._instance)

    def detach(self, error: Exception) -> object:
        """Forget the object, and end what is outstanding."""
        instance, self._instance, self._thread = self._instance, None, None
        outstanding, self.outstanding = self.outstanding, set()
        for each in list(outstanding):
            each.abandon(error)
        return instance


class Owner:
    """What users hold: it owns a resident, and closes it when it is collected."""

    _resident: Resident[Any] | None = None  # on the class, so that __del__ works if __init__ has failed

    def __del__(self) -> None:
        resident = self._resident
        if resident is not None and resident.is_open:
            resident.close_later()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)


class Closeable(Owner):
    """An owner for ``with``."""

    def close(self) -> None:
        """Close it, and end geartrain's thread if nothing else uses it."""
        if self._resident is not None:
            self._resident.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
