"""
What a forked process inherits, and must not use: the sockets of its parent, and what was connected by them.

In the child each socket is replaced by ``/dev/null``. So it can take nothing that is meant for the parent, say nothing
in the parent's name, and not hold a connection open that the parent has closed.
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
    See that processes which are forked from this one do not have the sockets of a holder.

    Args:
        holder: Who has sockets.
        descriptors: Gives the file descriptors of those that it has open when it is called.
    """
    _holders[holder] = descriptors


def check_process(pid: int, what: str) -> None:
    """
    See that something which process ``pid`` has begun is used in that process.

    Raises:
        LocalProtocolError: If this is another one, forked from it.
    """
    if pid != os.getpid():
        raise LocalProtocolError(f"{what} belongs to process {pid}, from which this one was forked; make another here")


def _let_go() -> None:
    inherited = [number for holder, descriptors in list(_holders.items()) for number in descriptors(holder)]
    _holders.clear()
    if inherited:
        nothing = os.open(os.devnull, os.O_RDWR)
        # They are not closed: who still has their numbers would close them once more, and by then these may be others'.
        for number in inherited:
            os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
