"""The thread of this process that runs the event loop of everything in ``geartrain.blocking``."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast

from geartrain import ClientDisconnectedError, LocalProtocolError
from geartrain.blocking.multiprocessing_exit import call_when_child_ends
from geartrain.blocking.waiting import Mailbox
from geartrain.unpatched import start_native_thread, unpatched

__all__ = ["Dependent", "LoopThread", "Started", "get_loop_thread", "release"]

P = ParamSpec("P")
T = TypeVar("T")

FLUSH_TIMEOUT: Final = 2.0  # seconds that job servers have, at exit, to receive what was submitted
_CLOSE_TIMEOUT: Final = 1.0  # seconds that closing may take at exit


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


class Started(Generic[T]):
    """
    A coroutine that runs in the event loop.

    Args:
        thread: The thread of the event loop.
        call: Makes the coroutine, in the event loop.
        on_end: Called in the event loop with the result, or ``None`` and what was raised.
    """

    __slots__ = ("_call", "_is_cancelled", "_on_end", "_task", "_thread")

    def __init__(
        self,
        thread: LoopThread,
        call: Callable[[], Coroutine[Any, Any, T]],
        on_end: Callable[[T | None, BaseException | None], None],
    ) -> None:
        self._thread = thread
        self._call = call
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False

    def begin(self) -> None:
        """Start the coroutine. Called in the event loop, in the context of the caller."""
        if not self._is_cancelled:
            self._task = self._thread.loop.create_task(self._run())

    async def _run(self) -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = await self._call()
        except asyncio.CancelledError:
            failure = ClientDisconnectedError("the call was cancelled, because its event loop has ended")
        except BaseException as error:  # noqa: BLE001  # it is raised again in the thread that waits
            failure = error
        self._thread.forget(self)
        if not self._thread.is_exiting:
            self._on_end(result, failure)

    def cancel(self) -> None:
        """Cancel the coroutine. Called in any thread."""
        self._is_cancelled = True
        self._thread.post(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def abandon(self, error: BaseException) -> None:
        """End the wait for a coroutine that will never end."""
        if not self._thread.is_exiting:
            self._on_end(None, error)


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
        self._native_id: int | None = None
        self._dependents: set[Dependent] = set()
        self._started: set[Started[Any]] = set()
        self._is_stopping = False
        self._has_ended: Mailbox[None] = Mailbox()

    # In any thread.

    def start(self) -> None:
        """
        Start the thread.

        Raises:
            LocalProtocolError: If the system or the interpreter refuses, or uWSGI would never run the thread.
        """
        try:
            _check_uwsgi()
            start_native_thread(self._run)
        except LocalProtocolError:
            self.loop.close()
            raise
        except RuntimeError as error:
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

    def spawn(
        self, call: Callable[[], Coroutine[Any, Any, T]], on_end: Callable[[T | None, BaseException | None], None]
    ) -> Started[T]:
        """Run a coroutine function in the event loop, in a copy of the caller's context."""
        started = Started(self, call, on_end)
        self.start_call(started)
        return started

    def start_call(self, started: Started[Any]) -> None:
        """Do the same with one that exists already. It can be cancelled at any time, even if this is interrupted."""
        self._started.add(started)
        try:
            self.loop.call_soon_threadsafe(started.begin, context=copy_context())
        except RuntimeError:  # the loop was closed in between
            self._started.discard(started)
            started.abandon(thread_has_ended())

    def call(self, call: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run a coroutine function in the event loop, and wait for its result.

        If the wait is interrupted, the coroutine is cancelled, and this raises immediately.

        Raises:
            LocalProtocolError: If it is called in the thread of the event loop.
        """
        self.check_may_wait()
        outcomes: Mailbox[tuple[T | None, BaseException | None]] = Mailbox()
        run = partial(call, *args, **kwargs)
        started = Started(self, run, lambda result, failure: outcomes.put((result, failure)))
        try:
            self.start_call(started)
            result, failure = outcomes.get()
        except BaseException:
            started.cancel()
            raise
        if failure is None:
            return cast("T", result)
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def post(self, call: Callable[[], object]) -> None:
        """Run a function in the event loop, in a copy of the caller's context, without waiting."""
        with suppress(RuntimeError):  # the loop is closed: nothing is left to be done there
            self.loop.call_soon_threadsafe(call, context=copy_context())

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

    def detach(self) -> list[object]:
        """Forget the thread, in a forked process, and return what must be kept alive."""
        return [self, *self._abandon(LocalProtocolError("it belongs to the process from which this one was forked"))]

    def _abandon(self, error: LocalProtocolError) -> list[object]:
        for started in list(self._started):
            started.abandon(error)
        return [dependent.detach(error) for dependent in list(self._dependents)]

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
        _kept_alive.extend(self._abandon(thread_has_ended()))  # what is left warns when it is freed
        asyncio.set_event_loop(None)
        self.loop.close()
        self._has_ended.put(None)

    def forget(self, started: Started[Any]) -> None:
        """Drop a coroutine that has ended."""
        self._started.discard(started)

    async def flush_dependents(self) -> None:
        """Let the job servers receive what was submitted."""
        await _try_for(FLUSH_TIMEOUT, [dependent.flush() for dependent in list(self._dependents)])

    async def close_dependents(self) -> None:
        """Do the same, and close everything. For the end of the interpreter."""
        self.is_exiting = True
        await self.flush_dependents()
        await _try_for(_CLOSE_TIMEOUT, [dependent.shut_down() for dependent in list(self._dependents)])


def thread_has_ended() -> LocalProtocolError:
    """Return the error of what can no longer be done."""
    return LocalProtocolError("the thread that ran the event loop of geartrain.blocking has ended")


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _try_for(seconds: float, calls: list[Coroutine[Any, Any, None]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*calls, return_exceptions=True)


_lock = threading.RLock()  # reentrant: a signal handler may use a client while its own thread holds it
_current: LoopThread | None = None
_kept_alive: list[object] = []


def get_loop_thread(dependent: Dependent) -> LoopThread:
    """Return the thread of this process, which runs until :func:`release` is called for all its dependents."""
    global _current
    with _lock:
        if _current is None or not _current.is_usable:
            thread = LoopThread()
            thread.start()
            _current = thread
            call_when_child_ends(_flush_at_end_of_child)
        _current.add(dependent)
        return _current


def release(thread: LoopThread, dependent: Dependent) -> None:
    """Stop a thread if this was its last dependent, and wait for its end, except in the thread itself."""
    global _current
    with _lock:
        is_last = thread.remove(dependent)
        if is_last and _current is thread:
            _current = None
    if is_last:
        thread.stop()


def _check_uwsgi() -> None:
    uwsgi = sys.modules.get("uwsgi")  # there is one only in its own processes
    if uwsgi is not None and not {"enable-threads", "threads"} & uwsgi.opt.keys():
        raise LocalProtocolError("uWSGI runs no thread of an application: start it with --enable-threads")


def _close_at_exit() -> None:
    thread = _current
    if thread is not None and thread.is_usable:
        with suppress(TimeoutError):  # a callback that never returns must not keep the process alive
            thread.finish(thread.close_dependents, FLUSH_TIMEOUT + 2 * _CLOSE_TIMEOUT)
            thread.stop(timeout=_CLOSE_TIMEOUT)


def _flush_at_end_of_child() -> None:
    # Threads of the child may still wait for results, so nothing is closed. The system does that soon.
    thread = _current
    if thread is not None and thread.is_usable:
        with suppress(TimeoutError):
            thread.finish(thread.flush_dependents, FLUSH_TIMEOUT + _CLOSE_TIMEOUT)


def _detach_after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()  # another thread may have held it, and does not exist in this process
    thread, _current = _current, None
    if thread is not None:
        _kept_alive.extend(thread.detach())


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_after_fork)
