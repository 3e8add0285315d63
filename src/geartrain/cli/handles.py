"""Handles, as users give them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from geartrain.handle import JobHandle

__all__ = ["read_handle"]


def read_handle(text: str, servers: Sequence[str]) -> JobHandle:
    """
    Read a handle, with its job server in front or not.

    Raises:
        click.UsageError: If it is none, or its job server is not known.
    """
    if "//" not in text and len(servers) != 1:
        raise click.UsageError(f"{text} is a job of which of the job servers? Write it like {servers[0]}//{text}")
    try:
        handle = JobHandle.parse(text if "//" in text else f"{servers[0]}//{text}")
        _ = handle.wire  # which says whether it can be sent
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return handle
