"""A thread that runs an event loop, and calls from other threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

from geartrain import LocalProtocolError, Mailbox
from geartrain.blocking.inbox import Inbox
from geartrain.blocking.loop_call import CoroutineCall, FutureCall, LoopCall, OnEnd
from geartrain.unpatched import start_native_thread, unpatched

__all__ = ["CLOSE_TIMEOUT", "FLUSH_TIMEOUT", "Dependent", "LoopThread", "thread_has_ended"]

P = ParamSpec("P")
T = TypeVar("T")

FLUSH_TIMEOUT: Final = 2.0  # seconds that job servers have, at exit, to receive what was submitted
CLOSE_TIMEOUT: Final = 1.0  # seconds that closing may take at exit

_kept_alive: Final[list[object]] = []  # what would warn, or affect the parent of this process, when it is freed


class Dependent(Protocol):
    """What lives in the event loop: it is closed at exit, and detached in a forked process."""

    async def flush(self) -> None:
        """Wait until the job servers have received what was submitted. Called in the event loop."""

    async def shut_down(self) -> None:
        """Close everything. Called in the event loop."""

    def detach(self, error: Exception) -> object:
        """
        Forget everything in the event loop, which has ended, or runs in the process from which this one was forked.

        Args:
            error: Ends what is outstanding.

        Returns:
            What must be kept alive in a forked process, because freeing it would affect the parent.
        """


class LoopThread:
    """
    A thread that runs an event loop while there are dependents.

    Attributes:
        loop: The event loop.
        is_exiting: The interpreter exits. Only daemon threads wait now; they end with it, and none is woken up by an
            error, which would be printed.
    """

    def __init__(self) -> None:
        self.is_exiting: bool = False
        # Under gevent the default selector is one that needs gevent's own loop.
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop(unpatched("selectors", "DefaultSelector")())
        self._inbox = Inbox(self.loop)
        self._native_id: int | None = None
        self._dependents: set[Dependent] = set()
        self._calls: set[LoopCall[Any]] = set()
        self._is_stopping = False
        self._has_ended: Mailbox[None] = Mailbox()

    # In any thread.

    def start(self) -> None:
        """
        Start the thread.

        Raises:
            LocalProtocolError: If the system or the interpreter refuses.
        """
        try:
            start_native_thread(self._run)
        except RuntimeError as error:
            self._inbox.close()
            self.loop.close()
            raise LocalProtocolError(f"geartrain.blocking cannot start its thread: {error}") from error

    @property
    def is_usable(self) -> bool:
        """Whether it accepts calls."""
        return not self._is_stopping

    def add(self, dependent: Dependent) -> None:
        """Keep the thread running for a dependent."""
        self._dependents.add(dependent)

    def remove(self, dependent: Dependent) -> bool:
        """Remove a dependent. If it was the last one, accept no more calls, and return ``True``: stop the thread."""
        self._dependents.discard(dependent)
        if self._dependents or self._is_stopping:
            return False
        self._is_stopping = True
        return True

    def check_may_wait(self) -> None:
        """
        Check that the caller may wait for the event loop.

        Raises:
            LocalProtocolError: If it is a callback, which runs in the thread of the event loop.
        """
        if self._is_running_here:
            raise LocalProtocolError(
                "a callback cannot wait: it runs in geartrain's thread, which would wait for itself; use submit instead"
            )

    @property
    def _is_running_here(self) -> bool:
        # Per thread of the operating system, so a greenlet is not mistaken for the event loop.
        return asyncio._get_running_loop() is self.loop

    def spawn(self, call: Callable[[], Coroutine[Any, Any, T]], on_end: OnEnd[T]) -> LoopCall[T]:
        """Run a coroutine function in the event loop, in a copy of the caller's context."""
        started = CoroutineCall(self, call, on_end)
        self.start_call(started)
        return started

    def start_call(self, call: LoopCall[Any]) -> None:
        """Begin a call, in a copy of the caller's context. It can be cancelled even if this is interrupted."""
        self._calls.add(call)
        if not self.post(call.begin):  # it has ended in between
            self._calls.discard(call)
            call.abandon(thread_has_ended())

    def call(self, call: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run a coroutine function in the event loop, and wait for its result.

        If the wait is interrupted, the coroutine is cancelled, and this raises immediately.

        Raises:
            LocalProtocolError: If it is called in the thread of the event loop.
        """
        return cast("T", self._wait_for(CoroutineCall, partial(call, *args, **kwargs)))

    def wait_for(self, call: Callable[P, asyncio.Future[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call a function in the event loop, and wait for the future that it returns, at less cost than with a coroutine.

        If the wait is interrupted, the future is cancelled, and this raises immediately.

        Raises:
            LocalProtocolError: If it is called in the thread of the event loop.
        """
        return cast("T", self._wait_for(FutureCall, partial(call, *args, **kwargs)))

    def _wait_for(
        self, kind: Callable[[LoopThread, Callable[[], Any], OnEnd[Any]], LoopCall[Any]], run: Callable[[], Any]
    ) -> Any:
        self.check_may_wait()
        outcomes: Mailbox[tuple[Any, BaseException | None]] = Mailbox()
        call = kind(self, run, lambda result, failure: outcomes.put((result, failure)))
        try:
            self.start_call(call)
            result, failure = outcomes.get()
        except BaseException:
            call.cancel()
            raise
        if failure is None:
            return result
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def post(self, call: Callable[[], object]) -> bool:
        """
        Run a function in the event loop, in a copy of the caller's context, without waiting.

        Returns:
            ``False`` if the event loop has ended. The function is not called then.
        """
        try:
            self._inbox.put(call, copy_context())
        except OSError:
            return False
        return True

    def finish(self, call: Callable[[], Coroutine[Any, Any, None]], timeout: float) -> None:
        """
        Run a coroutine function of the end of the process.

        Raises:
            TimeoutError: If a callback that never returns keeps it from ending for ``timeout`` seconds.
        """
        ended: Mailbox[object] = Mailbox()
        self.post(lambda: self.loop.create_task(call()).add_done_callback(ended.put))
        ended.get(timeout)

    def stop(self, timeout: float | None = None) -> None:
        """
        End the thread. Wait for it, unless this is the thread itself.

        Raises:
            TimeoutError: If a callback keeps it from ending for ``timeout`` seconds.
        """
        self._is_stopping = True
        self.post(self.loop.stop)
        if not self._is_running_here:
            self._has_ended.get(timeout)
            self._has_ended.put(None)
            self._wait_for_system()

    def _wait_for_system(self) -> None:
        # A thread exists for some microseconds after its last line, and until then os.fork() warns of it.
        while self._native_id is not None and os.path.exists(f"/proc/self/task/{self._native_id}"):
            time.sleep(0.0001)

    def detach(self) -> None:
        """Forget the thread and everything in it, in a forked process."""
        _kept_alive.append(self)
        self._inbox.detach()
        self._abandon(LocalProtocolError("it belongs to the process from which this one was forked"))

    def _abandon(self, error: LocalProtocolError) -> None:
        for call in list(self._calls):
            call.abandon(error)
        _kept_alive.extend([dependent.detach(error) for dependent in list(self._dependents)])

    # In the thread.

    def _run(self) -> None:
        self._native_id = threading.get_native_id()
        asyncio.set_event_loop(self.loop)
        try:
            while not self._is_stopping:
                try:
                    self.loop.run_forever()
                except (KeyboardInterrupt, SystemExit) as error:  # of a callback: it ends nothing else
                    self.loop.call_exception_handler({"message": "a callback has raised", "exception": error})
            self.loop.run_until_complete(_cancel_tasks())
        except BaseException as error:  # noqa: BLE001  # the next call starts another thread
            self.loop.call_exception_handler({"message": "geartrain's event loop has failed", "exception": error})
        finally:
            self._end()

    def _end(self) -> None:
        self._is_stopping = True
        self._inbox.close()
        self._abandon(thread_has_ended())
        self._inbox.make_calls()  # what was posted last ends jobs that are not submitted
        asyncio.set_event_loop(None)
        self.loop.close()
        self._has_ended.put(None)

    def forget(self, call: LoopCall[Any]) -> None:
        """Drop a call that has ended."""
        self._calls.discard(call)

    async def flush_dependents(self) -> None:
        """Let the job servers receive what was submitted."""
        await _try_for(FLUSH_TIMEOUT, [dependent.flush() for dependent in list(self._dependents)])

    async def close_dependents(self) -> None:
        """Do the same, and close everything. For the end of the interpreter."""
        self.is_exiting = True
        await self.flush_dependents()
        await _try_for(CLOSE_TIMEOUT, [dependent.shut_down() for dependent in list(self._dependents)])


def thread_has_ended() -> LocalProtocolError:
    """Return the error of what can no longer be done."""
    return LocalProtocolError("the thread that ran the event loop of geartrain.blocking has ended")


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _try_for(seconds: float, calls: list[Coroutine[Any, Any, None]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*calls, return_exceptions=True)
