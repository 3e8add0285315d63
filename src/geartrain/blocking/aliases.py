"""Clients by alias."""

from __future__ import annotations

import os
import threading
from typing import Any

from geartrain import AliasInUseError, UnknownAliasError

__all__ = ["find", "register", "unregister"]

_clients: dict[str, Any] = {}
_lock = threading.RLock()  # reentrant, since a signal handler may post while its own thread holds it


def register(alias: str, client: object) -> None:
    """
    Give a client an alias.

    Raises:
        AliasInUseError: If another open client has it.
        TypeError: If it is not a string, or empty.
    """
    if not isinstance(alias, str) or not alias:
        raise TypeError(f"an alias is a string that is not empty, got {alias!r}")
    with _lock:
        if alias in _clients:
            raise AliasInUseError(f"there is an open client with the alias {alias!r} already")
        _clients[alias] = client


def unregister(alias: str, client: object) -> None:
    """Free the alias of a client, if it has it."""
    with _lock:
        if _clients.get(alias) is client:
            del _clients[alias]


def find(alias: str) -> Any:
    """
    Return the open client with this alias.

    Raises:
        UnknownAliasError: If there is none.
    """
    with _lock:
        client = _clients.get(alias)
    if client is None:
        raise UnknownAliasError(f"there is no open client with the alias {alias!r}")
    return client


def _replace_lock() -> None:
    global _lock  # another thread of the parent may have held it
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)
