"""The thread of this process that runs the event loop of everything in ``geartrain.blocking``, until exit or fork."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress

from geartrain import LocalProtocolError
from geartrain.blocking.loop_thread import CLOSE_TIMEOUT, FLUSH_TIMEOUT, Dependent, LoopThread
from geartrain.blocking.multiprocessing_exit import call_when_child_ends

__all__ = ["get_loop_thread", "release"]

_lock = threading.RLock()  # reentrant: a signal handler may use a client while its own thread holds it
_current: LoopThread | None = None


def get_loop_thread(dependent: Dependent) -> LoopThread:
    """Return the thread of this process, which runs until :func:`release` is called for all its dependents."""
    global _current
    with _lock:
        if _current is None or not _current.is_usable:
            _check_uwsgi()
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
            thread.finish(thread.close_dependents, FLUSH_TIMEOUT + 2 * CLOSE_TIMEOUT)
            thread.stop(timeout=CLOSE_TIMEOUT)


def _flush_at_end_of_child() -> None:
    # Threads of the child may still wait for results, so nothing is closed. The system does that soon.
    thread = _current
    if thread is not None and thread.is_usable:
        with suppress(TimeoutError):
            thread.finish(thread.flush_dependents, FLUSH_TIMEOUT + CLOSE_TIMEOUT)


def _detach_after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()  # another thread may have held it, and does not exist in this process
    thread, _current = _current, None
    if thread is not None:
        thread.detach()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_after_fork)
