"""Clients by alias, and what happens to all clients when the process forks."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

from geartrain.errors import AliasInUseError, UnknownAliasError

__all__ = ["Entry", "Registered", "find", "is_registered", "register", "track", "unregister"]


class Registered(Protocol):
    """What can have an alias."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which it is used, or ``None`` before its first use."""


class Entry(NamedTuple):
    """
    The holder of an alias.

    Attributes:
        client: The holder.
        handle_event: Called in its event loop with the name of an event that was posted, and its arguments.
    """

    client: Registered
    handle_event: Callable[..., None]


_entries: dict[str, Entry] = {}
_tracked: weakref.WeakKeyDictionary[Registered, weakref.WeakMethod[Callable[[], object]]] = weakref.WeakKeyDictionary()
_kept_alive: list[object] = []  # inherited objects: freeing them would warn, and wake up the parent's loop
_lock = threading.RLock()  # reentrant, since a signal handler may post while its own thread holds it


def _detach_all() -> None:
    """Free all aliases in a forked process, and detach all clients: what they hold belongs to the parent."""
    global _lock  # another thread of the parent may have held it, and cannot release it here
    _lock = threading.RLock()
    _kept_alive.extend(_entries.values())
    _entries.clear()
    methods = [reference() for reference in list(_tracked.values())]
    _kept_alive.extend(detach() for detach in methods if detach is not None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_all)


def track(client: Registered, detach: Callable[[], object]) -> None:
    """
    Call a bound method of a client when the process is forked, in the child.

    What it returns is kept alive and never used.
    """
    _tracked[client] = weakref.WeakMethod(detach)


def register(alias: str, client: Registered, handle_event: Callable[..., None]) -> None:
    """
    Give a client an alias.

    Raises:
        AliasInUseError: If another open client has it.
    """
    if not isinstance(alias, str) or not alias:
        raise TypeError(f"an alias is a string that is not empty, got {alias!r}")
    with _lock:
        entry = _entries.get(alias)
        # The client of a loop that is closed can never be closed itself, so its alias is free.
        if entry is not None and not _is_loop_closed(entry.client):
            raise AliasInUseError(f"there is an open client with the alias {alias!r} already")
        _entries[alias] = Entry(client, handle_event)


def unregister(alias: str, client: Registered) -> None:
    """Free the alias of a client, if it has it."""
    with _lock:
        if is_registered(alias, client):
            del _entries[alias]


def is_registered(alias: str, client: Registered) -> bool:
    """Return whether this client has the alias."""
    with _lock:
        entry = _entries.get(alias)
        return entry is not None and entry.client is client


def find(alias: str) -> Entry:
    """
    Return the open client with this alias. May be called from any thread.

    Raises:
        UnknownAliasError: If there is none.
    """
    with _lock:
        entry = _entries.get(alias)
    if entry is None or _is_loop_closed(entry.client):
        raise UnknownAliasError(f"there is no open client with the alias {alias!r}")
    return entry


def _is_loop_closed(client: Registered) -> bool:
    return client.loop is not None and client.loop.is_closed()
