"""Handles, as users read and write them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.handle import JobHandle, names_server

__all__ = ["format_handle", "parse_handle"]


def format_handle(handle: JobHandle) -> str:
    """Return a text that :func:`parse_handle` reads: a token if the handle is not printable."""
    text = str(handle)
    return text if text.isprintable() else handle.token()


def parse_handle(text: str, servers: Sequence[str]) -> JobHandle:
    """
    Read a handle, with its job server in front or not, or the token of a handle.

    Raises:
        click.UsageError: If it is invalid, or its job server is not known.
    """
    is_complete = names_server(text)
    if not is_complete and len(servers) != 1:
        raise click.UsageError(f"several job servers, but none in the handle: expected {servers[0]}//{text}")
    try:
        handle = JobHandle.parse(text if is_complete else f"{servers[0]}//{text}")
        _ = handle.wire  # raises if it is too long or has a NUL
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return handle
