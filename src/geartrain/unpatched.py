"""The standard library's own functions, also where gevent has replaced them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from threading import RLock

__all__ = ["create_native_lock", "is_patched", "start_native_thread", "unpatched"]


def is_patched() -> bool:
    """Whether threads are greenlets, because of gevent's monkey patching."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def unpatched(module: str, name: str) -> Any:
    """
    Return an attribute of a module of the standard library as it was before gevent's monkey patching, if any.

    An event loop that runs in a thread needs a thread of the operating system, and the original selector: a greenlet
    would share the thread, and the running loop, with the greenlets that wait for it.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(import_module(module), name)
    return monkey.get_original(module, name)


def create_native_lock() -> RLock:
    """
    Return a reentrant lock that threads of the operating system share.

    All greenlets of a thread count as one owner, so none may let others run while it holds the lock.
    """
    return cast("RLock", unpatched("_thread", "RLock")())


def start_native_thread(run: Callable[[], object]) -> None:
    """
    Start a thread of the operating system that the interpreter does not wait for at exit.

    Raises:
        RuntimeError: If the system has no more threads, or the interpreter is exiting.
    """
    # Not a threading.Thread, which fails at its end if gevent has patched threading in the meantime.
    unpatched("_thread", "start_new_thread")(_run_observed, (run,))


def _run_observed(run: Callable[[], object]) -> None:
    """Run something under the debugger, profiler or coverage tool that observes all threads, if there is one."""
    sys.settrace(threading.gettrace())
    sys.setprofile(threading.getprofile())
    run()
