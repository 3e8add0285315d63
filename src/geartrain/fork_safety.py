"""
Detaches a forked process from the connections of its parent.

In the child each socket is replaced by ``/dev/null``. The child can neither receive data for the parent, nor send data
on its behalf, nor keep a connection open that the parent has closed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from geartrain.errors import LocalProtocolError

__all__ = ["check_process", "protect_on_fork"]

T = TypeVar("T")

_holders: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], Iterable[int]]]] = weakref.WeakKeyDictionary()


def protect_on_fork(holder: T, descriptors: Callable[[T], Iterable[int]]) -> None:
    """
    Detach the sockets of a holder in processes that are forked from this one.

    Args:
        holder: The owner of the sockets.
        descriptors: Returns the file descriptors of the sockets that are open when it is called.
    """
    _holders[holder] = descriptors


def check_process(pid: int, what: str) -> None:
    """
    Check that this process is the one that created an object.

    Raises:
        LocalProtocolError: If this process was forked from process ``pid``.
    """
    if pid != os.getpid():
        raise LocalProtocolError(
            f"{what} belongs to process {pid}, from which this one was forked; create another one here"
        )


def _detach_sockets() -> None:
    inherited = [number for holder, descriptors in list(_holders.items()) for number in descriptors(holder)]
    _holders.clear()
    if inherited:
        nothing = os.open(os.devnull, os.O_RDWR)
        # They are not closed: an owner that closes its number later could close another file that reuses it.
        for number in inherited:
            os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_sockets)
