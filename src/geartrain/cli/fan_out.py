"""Sends the same request to all job servers and reports those that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from geartrain.admin import Admin, AdminGroup
from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, NO_SERVER, SUCCESS
from geartrain.cli.messages import describe_server_error
from geartrain.errors import ServerError

__all__ = ["query_servers", "report_errors"]

T = TypeVar("T")


async def query_servers(servers: Sequence[str], query: Callable[[Admin], Awaitable[T]]) -> tuple[dict[str, T], int]:
    """
    Call ``query`` for every job server.

    Returns:
        The results by address, and the exit status, which is not 0 if any job server failed or did not respond.
    """
    async with AdminGroup(servers) as admins:
        return report_errors(await admins.ask(query))


def report_errors(outcomes: Mapping[str, T | Exception]) -> tuple[dict[str, T], int]:
    """Report each error in one sentence; return the remaining results and the exit status."""
    status = SUCCESS
    results: dict[str, T] = {}
    for server, outcome in outcomes.items():
        if isinstance(outcome, Exception):
            status = max(status, FAILED if isinstance(outcome, ServerError) else NO_SERVER)
            print_error(f"geartrain: {describe_server_error(server, outcome)}")
        else:
            results[server] = outcome
    return results, status
