"""Threads that run calls, and a pool of daemon threads; a running job never blocks interpreter exit."""

from __future__ import annotations

import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = ["DaemonThreadPool", "Reader", "Threads", "run_reporting"]

P = ParamSpec("P")
R = TypeVar("R")


class Threads(ABC):
    """
    Threads that run calls.

    Attributes:
        interrupts: Exceptions that end no job but the run of the worker.
    """

    interrupts: tuple[type[BaseException], ...]

    @abstractmethod
    def execute(self, call: Callable[[], object]) -> None:
        """
        Run a call in the next free thread. What it raises is passed to :func:`threading.excepthook`.

        Raises:
            RuntimeError: If there is no thread and none can be started.
        """

    @abstractmethod
    def close(self) -> None:
        """End each thread once the queued calls have run."""

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a call in the next free thread, and return a future for its result; raises as :meth:`execute`."""
        future: Future[R] = Future()
        self.execute(partial(_run_call, future, partial(call, *args, **kwargs)))
        return future


class Reader(Protocol):
    """Waits for input in a thread of the pool."""

    def read(self) -> None:
        """Wait for input and handle it, or return because of :meth:`wake`. Calls ``execute`` for what is to be run."""

    def wake(self) -> None:
        """Have :meth:`read` return soon."""

    def close(self) -> None:
        """Called last, in a thread of the pool."""


class DaemonThreadPool(Threads):
    """
    Runs calls in threads, which are started on demand and reused.

    The threads are daemons, unlike those of :class:`concurrent.futures.ThreadPoolExecutor`: a thread cannot be
    stopped, and the interpreter would wait, possibly forever, for one whose job was returned.

    Args:
        max_threads: The maximum number of threads.
        provided: How many of them exist already: each calls :meth:`serve`.
        interrupts: Exceptions that end no job but :meth:`serve`, which raises them.
    """

    def __init__(
        self, max_threads: int, *, provided: int = 0, interrupts: tuple[type[BaseException], ...] = ()
    ) -> None:
        self.interrupts = interrupts
        self._max_threads = max_threads
        self._lock = threading.Lock()
        self._started = provided
        self._unfinished = 0  # calls that are queued or running
        self._queue: SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()  # gevent's, if it has replaced it
        self._reader: Reader | None = None
        self._reading_thread: int | None = None
        self._own_call: Callable[[], object] | None = None  # what the reading thread runs next
        self._is_closed = False

    @property
    def unfinished(self) -> int:
        """The number of calls that are queued or running."""
        return self._unfinished

    def execute(self, call: Callable[[], object]) -> None:
        """Run a call in the next free thread; the thread that reads runs its first call itself."""
        if self._own_call is None and self._reading_thread == threading.get_ident():
            self._own_call = call
            return
        with self._lock:
            self._unfinished += 1
            is_short = self._started < min(self._unfinished, self._max_threads)
            self._started += is_short
            number = self._started
        self._queue.put(call)
        if is_short:
            self._start_thread(number)
        elif self._reader is not None and self._reading_thread is not None:
            self._reader.wake()  # perhaps no other thread is free

    def _start_thread(self, number: int) -> None:
        try:
            threading.Thread(target=self.serve, name=f"geartrain-worker_{number}", daemon=True).start()
        except RuntimeError:  # the system has no more
            with self._lock:
                self._started -= 1
                if not self._started:
                    raise
            # One of the other threads runs the call, and the next call tries again.

    def start_reading(self, reader: Reader) -> None:
        """Have free threads read in turn. A thread itself runs the first call that results from its reading."""
        self._reader = reader
        self.execute(self._read)

    def _read(self) -> None:
        """Read until there is something to run, pass reading on to the next free thread, and run it."""
        reader = self._reader
        assert reader is not None
        self._reading_thread = threading.get_ident()
        try:
            while not self._is_closed and self._own_call is None and self._queue.empty():
                reader.read()
        finally:
            self._reading_thread = None
            own_call, self._own_call = self._own_call, None
            if self._is_closed:
                reader.close()
            else:
                self.execute(self._read)
        if own_call is not None:
            own_call()

    def close(self) -> None:
        """End each thread once the queued calls have run."""
        self._is_closed = True
        if self._reader is not None:
            self._reader.wake()
        for _ in range(self._started):
            self._queue.put(None)

    def serve(self) -> None:
        """Run calls in this thread until :meth:`close`. For threads that are ``provided``."""
        while (call := self._queue.get()) is not None:
            run_reporting(call, self.interrupts)
            del call  # an idle thread keeps no job alive
            with self._lock:
                self._unfinished -= 1


def run_reporting(call: Callable[[], object], interrupts: tuple[type[BaseException], ...]) -> None:
    """Run a call; pass what it raises to :func:`threading.excepthook`, and raise only ``interrupts``."""
    try:
        call()
    except interrupts:
        raise
    except BaseException:  # noqa: BLE001  # the thread goes on
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _run_call(future: Future[Any], call: Callable[[], object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the caller
        future.set_exception(error)
    else:
        future.set_result(result)
