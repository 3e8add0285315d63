"""Handles, as users give them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.handle import JobHandle, names_server

__all__ = ["read_handle"]


def read_handle(text: str, servers: Sequence[str]) -> JobHandle:
    """
    Read a handle: that of a job server, one with its job server in front, or a token.

    Raises:
        click.UsageError: If it is none, or its job server is not known.
    """
    if not names_server(text) and len(servers) != 1:
        raise click.UsageError(f"{text} is a job of which of the job servers? Write it like {servers[0]}//{text}")
    try:
        handle = JobHandle.parse(text if names_server(text) else f"{servers[0]}//{text}")
        _ = handle.wire  # which says whether it can be sent
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return handle
