"""Options shared by several commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geartrain.address import ENVIRONMENT, Address, parse_addresses

__all__ = ["json_option", "parse_http_address", "parse_name", "parse_servers", "server_option"]

if TYPE_CHECKING:
    from geartrain.http_service import HttpAddress

F = TypeVar("F", bound=Callable[..., Any])


def parse_servers(texts: Sequence[str]) -> list[str]:
    """
    Parse job server addresses, each text a comma-separated list, and normalize their spelling.

    Raises:
        click.UsageError: If an address is invalid.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    try:
        return [str(address) for address in parse_addresses(part for part in parts if part)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def parse_name(text: str) -> str:
    """Return a name that job servers receive as the bytes given on the command line, whatever the locale."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def parse_http_address(context: click.Context, parameter: click.Parameter, text: str | None) -> HttpAddress | None:
    """
    Parse the value of an option that says where to serve HTTP.

    Raises:
        click.UsageError: If it is invalid.
    """
    if text is None:
        return None
    from geartrain.http_service import HttpAddress  # few commands need it

    try:
        return HttpAddress.parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def server_option(command: F) -> F:
    """Add the option ``-s``, which passes ``servers``, a list of addresses, to a command."""
    return click.option(
        "-s",
        "--server",
        "servers",
        metavar="HOST[:PORT]",
        multiple=True,
        callback=_choose_servers,
        help=f"A job server; repeatable. Defaults to ${ENVIRONMENT}, or else 127.0.0.1:4730.",
    )(command)


def json_option(command: F) -> F:
    """Add the option ``--json``, which passes ``as_json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def _choose_servers(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[str]:
    servers = parse_servers(given)
    if given and not servers:
        raise click.UsageError(f"-s requires a job server address, got {given[0]!r}")
    return servers or parse_servers([os.environ.get(ENVIRONMENT, "")]) or [str(Address("127.0.0.1"))]
