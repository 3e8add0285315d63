"""Clients by name, and events handed to them from anywhere, other threads included."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack, cast

from geartrain.address import parse_addresses
from geartrain.client.task import Task
from geartrain.errors import AliasInUseError, LocalProtocolError, UnknownAliasError

if TYPE_CHECKING:
    from geartrain.client.client import Client
    from geartrain.client.options import ClientOptions

__all__ = ["EVENTS", "get_client", "post", "spawn"]

EVENTS = ("set_job_servers", "add_task", "disconnect_all")

_clients: dict[str, Client] = {}
_all: weakref.WeakSet[Client] = weakref.WeakSet()
_inherited: list[object] = []  # kept, since what is freed would warn, and wake the parent's loop
_lock = threading.RLock()  # reentrant, since a signal handler may post while its own thread holds it


def _forget_all() -> None:
    """Free all names in a forked process, and disown all clients: what they hold belongs to the parent."""
    global _lock  # another thread may have held it, and is not here to let it go
    _lock = threading.RLock()
    _inherited.extend(_clients.values())
    _clients.clear()
    _inherited.extend(client._disown() for client in list(_all))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def remember(client: Client) -> None:
    """Have a client hear of it when the process is forked."""
    _all.add(client)


def register(alias: str, client: Client) -> None:
    """
    Give a client a name.

    Raises:
        AliasInUseError: If another open client has it.
    """
    if not isinstance(alias, str) or not alias:
        raise TypeError(f"an alias is a string that is not empty, got {alias!r}")
    with _lock:
        holder = _clients.get(alias)
        # The client of a loop that is closed can never be closed itself, so its name is free.
        if holder is not None and (holder.loop is None or not holder.loop.is_closed()):
            raise AliasInUseError(f"there is an open client with the alias {alias!r} already")
        _clients[alias] = client


def unregister(alias: str, client: Client) -> None:
    """Free the name of a client, if it has it."""
    with _lock:
        if _clients.get(alias) is client:
            del _clients[alias]


def get_client(alias: str = "Gearman") -> Client:
    """
    Return the open client of this name. May be called from any thread.

    Raises:
        UnknownAliasError: If there is none.
    """
    with _lock:
        client = _clients.get(alias)
    if client is None or (client.loop is not None and client.loop.is_closed()):
        raise UnknownAliasError(f"there is no open client with the alias {alias!r}")
    return client


def spawn(
    *,
    alias: str = "Gearman",
    job_servers: Iterable[str] | str = ("127.0.0.1:4730",),
    **options: Unpack[ClientOptions],
) -> Client:
    """
    Make a client in the running loop, under a name by which :func:`post` and :func:`get_client` find it.

    Args:
        alias: The name; free again when the client is closed.
        job_servers: As for :class:`Client`.
        options: As for :class:`Client`.

    Raises:
        AliasInUseError: If an open client has the name.
        LocalProtocolError: If no loop is running.
    """
    from geartrain.client.client import Client

    client = Client(job_servers, alias=alias, **options)
    try:
        client.bind()
    except LocalProtocolError:
        unregister(alias, client)
        raise
    return client


def post(alias: str, event: str, *arguments: object) -> None:
    """
    Hand an event to the client of this name, without waiting, from any coroutine, callback, thread or signal handler.

    Events of one thread are handled in the order in which they were posted. Callbacks of a task that is posted run in
    the ``contextvars`` context of the caller.

    Args:
        alias: The client's name.
        event: ``"set_job_servers"`` with the new list, ``"add_task"`` with a :class:`Task`, or ``"disconnect_all"``.
        arguments: What the event goes with.

    Raises:
        UnknownAliasError: If there is no such client.
        LocalProtocolError: If the client has not been used in a loop yet, and none is running here.
        ValueError: If there is no such event, or a job server's address is none.
        TypeError: If the arguments are not those of the event.
    """
    client = get_client(alias)
    if event not in EVENTS:
        raise ValueError(f"an event is one of {', '.join(EVENTS)}, got {event!r}")
    arguments = _check_arguments(event, arguments)
    loop = client.loop if client.loop is not None else client.bind()
    try:
        loop.call_soon_threadsafe(_handle, alias, client, event, arguments)
    except RuntimeError as error:  # closed since it was looked up
        raise UnknownAliasError(f"there is no open client with the alias {alias!r}") from error


def _check_arguments(event: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Return the arguments in a form that is the same whenever the event is handled."""
    if event == "disconnect_all":
        if arguments:
            raise TypeError(f"disconnect_all takes no arguments, got {arguments!r}")
        return ()
    if len(arguments) != 1:
        raise TypeError(f"{event} takes one argument, got {arguments!r}")
    if event == "add_task" and not isinstance(arguments[0], Task):
        raise TypeError(f"add_task takes a Task, got {arguments[0]!r}")
    if event == "set_job_servers":
        addresses = parse_addresses(arguments[0])  # type: ignore[arg-type]  # it checks
        return ([str(address) for address in addresses],)
    return arguments


def _handle(alias: str, client: Client, event: str, arguments: tuple[object, ...]) -> None:
    with _lock:
        closed = _clients.get(alias) is not client
    if event == "disconnect_all":
        client._disconnect()
    elif not closed:
        getattr(client, event)(*arguments)
    elif event == "add_task":  # the client was closed meanwhile; the task's callbacks are called with that error
        client._reject(cast("Task", arguments[0]))
