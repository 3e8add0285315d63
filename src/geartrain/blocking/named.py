"""Clients by alias, and events posted to them from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Unpack

from geartrain.blocking import aliases
from geartrain.blocking.client import Client, post_event

if TYPE_CHECKING:
    from geartrain import ClientOptions

__all__ = ["get_client", "post", "spawn"]

_EVENTS: Final = ("set_job_servers", "add_task", "disconnect_all")


def get_client(alias: str = "Gearman") -> Client:
    """
    Return the open client with this alias.

    Raises:
        UnknownAliasError: If there is none.
    """
    client = aliases.find(alias)
    assert isinstance(client, Client)
    return client


def spawn(
    *,
    alias: str = "Gearman",
    job_servers: Iterable[str] | str | None = None,
    **options: Unpack[ClientOptions],
) -> Client:
    """
    Create a client with an alias by which :func:`post` and :func:`get_client` find it.

    Args:
        alias: The alias; free again when the client is closed.
        job_servers: As for :class:`Client`.
        options: As for :class:`Client`.

    Raises:
        AliasInUseError: If an open client has the alias.
    """
    return Client(job_servers, alias=alias, **options)


def post(alias: str, event: str, *arguments: object) -> None:
    """
    Post an event to the client with this alias, without waiting.

    It may be called from any callback, thread or signal handler.

    Args:
        alias: The client's alias.
        event: ``"set_job_servers"`` with the new list, ``"add_task"`` with a :class:`Task`, or ``"disconnect_all"``.
        arguments: The arguments of the event.

    Raises:
        UnknownAliasError: If there is no such client.
        ValueError: If there is no such event, or a job server's address is invalid.
        TypeError: If the arguments are not those of the event.
    """
    client = get_client(alias)
    if event not in _EVENTS:
        raise ValueError(f"an event is one of {', '.join(_EVENTS)}, got {event!r}")
    expected = 0 if event == "disconnect_all" else 1
    if len(arguments) != expected:
        raise TypeError(f"{event} takes {expected or 'no'} arguments, got {arguments!r}")
    post_event(client, event, *arguments)
