"""Options that several commands have."""

from __future__ import annotations

import click

from geartrain.address import parse_addresses

__all__ = ["read_servers"]


def read_servers(text: str) -> list[str]:
    """
    Read addresses parted by commas, in the form in which they are shown.

    Raises:
        click.UsageError: If one of them is none.
    """
    try:
        return [str(address) for address in parse_addresses(part.strip() for part in text.split(",") if part.strip())]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
