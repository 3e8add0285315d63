"""Clients by alias, and events posted to them from anywhere, other threads included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Unpack, cast

from geartrain.address import parse_addresses
from geartrain.client import registry
from geartrain.client.client import Client
from geartrain.client.task import Task
from geartrain.errors import LocalProtocolError, UnknownAliasError

if TYPE_CHECKING:
    from geartrain.client.config import ClientOptions

__all__ = ["EVENTS", "get_client", "post", "spawn"]

EVENTS: Final = ("set_job_servers", "add_task", "disconnect_all")


def get_client(alias: str = "Gearman") -> Client:
    """
    Return the open client with this alias. May be called from any thread.

    Raises:
        UnknownAliasError: If there is none.
    """
    return cast("Client", registry.find(alias).client)


def spawn(
    *,
    alias: str = "Gearman",
    job_servers: Iterable[str] | str | None = None,
    **options: Unpack[ClientOptions],
) -> Client:
    """
    Create a client in the running loop, with an alias by which :func:`post` and :func:`get_client` find it.

    Args:
        alias: The alias; free again when the client is closed.
        job_servers: As for :class:`Client`.
        options: As for :class:`Client`.

    Raises:
        AliasInUseError: If an open client has the alias.
        LocalProtocolError: If no loop is running.
    """
    client = Client(job_servers, alias=alias, **options)
    try:
        client.bind()
    except LocalProtocolError:
        registry.unregister(alias, client)
        raise
    return client


def post(alias: str, event: str, *arguments: object) -> None:
    """
    Post an event to the client with this alias, without waiting.

    It may be called from any coroutine, callback, thread or signal handler.

    Events of one thread are handled in the order in which they were posted. Callbacks of a task that is posted run in
    the ``contextvars`` context of the caller.

    Args:
        alias: The client's alias.
        event: ``"set_job_servers"`` with the new list, ``"add_task"`` with a :class:`Task`, or ``"disconnect_all"``.
        arguments: The arguments of the event.

    Raises:
        UnknownAliasError: If there is no such client.
        LocalProtocolError: If the client has not been used in a loop yet, and none is running here.
        ValueError: If there is no such event, or a job server's address is invalid.
        TypeError: If the arguments are not those of the event.
    """
    entry = registry.find(alias)
    if event not in EVENTS:
        raise ValueError(f"an event is one of {', '.join(EVENTS)}, got {event!r}")
    arguments = _check_arguments(event, arguments)
    loop = entry.client.loop
    if loop is None:
        loop = cast("Client", entry.client).bind()
    try:
        loop.call_soon_threadsafe(entry.handle_event, event, *arguments)
    except RuntimeError as error:  # the loop was closed in between
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
