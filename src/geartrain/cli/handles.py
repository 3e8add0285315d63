"""Job handles on the command line."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.handle import JobHandle, names_server

__all__ = ["format_handle", "parse_handle"]


def format_handle(handle: JobHandle) -> str:
    """Return a form that :func:`parse_handle` accepts; a token if the handle is not printable."""
    text = str(handle)
    return text if text.isprintable() else handle.token()


def parse_handle(text: str, servers: Sequence[str]) -> JobHandle:
    """
    Parse a handle, with or without its job server (``server//handle``), or a handle's token.

    Raises:
        click.UsageError: If it is invalid or its job server is ambiguous.
    """
    is_complete = names_server(text)
    if not is_complete and len(servers) != 1:
        raise click.UsageError(f"the handle must name one of the job servers, as in {servers[0]}//{text}")
    try:
        handle = JobHandle.parse(text if is_complete else f"{servers[0]}//{text}")
        _ = handle.wire  # raises if it is too long or contains a NUL
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return handle
