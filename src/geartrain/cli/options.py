"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from geartrain.address import Address, parse_addresses

__all__ = ["json_option", "name", "parse_servers", "server_option"]

F = TypeVar("F", bound=Callable[..., Any])

_ENVIRONMENT = "GEARMAN_SERVERS"  # libgearman's


def parse_servers(texts: Sequence[str]) -> list[str]:
    """
    Read addresses, several in one text parted by commas, in the form in which they are shown.

    Raises:
        click.UsageError: If one of them is none.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    try:
        return [str(address) for address in parse_addresses(part for part in parts if part)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def name(text: str) -> str:
    """
    Read a name, which is bytes to job servers: those of the command line, whatever the locale makes of them.

    It is a type for click, which shows its own name in the help.
    """
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def server_option(command: F) -> F:
    """Give a command the option ``-s``: the argument ``servers``, a list of addresses."""
    return click.option(
        "-s",
        "--server",
        "servers",
        metavar="HOST[:PORT]",
        multiple=True,
        callback=_choose_servers,
        help=f"A job server; may be repeated. Default: those in {_ENVIRONMENT}, else 127.0.0.1:4730.",
    )(command)


def json_option(command: F) -> F:
    """Give a command the option ``--json``: the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _choose_servers(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[str]:
    servers = parse_servers(given)
    if given and not servers:
        raise click.UsageError(f"-s needs the address of a job server, got {given[0]!r}")
    return servers or parse_servers([os.environ.get(_ENVIRONMENT, "")]) or [str(Address("127.0.0.1"))]
