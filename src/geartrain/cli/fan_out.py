"""Asks all job servers the same, and tells which of them did not answer."""

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


async def query_servers(servers: Sequence[str], call: Callable[[Admin], Awaitable[T]]) -> tuple[dict[str, T], int]:
    """
    Make a call to every job server.

    Returns:
        The answers by address, and the exit status: not 0 if one job server has not answered, or not as it should.
    """
    async with AdminGroup(servers) as admins:
        return report_errors(await admins.ask(call))


def report_errors(answers: Mapping[str, T | Exception]) -> tuple[dict[str, T], int]:
    """Tell of the errors, one sentence each; return the others, and the exit status."""
    status = SUCCESS
    good: dict[str, T] = {}
    for server, answer in answers.items():
        if isinstance(answer, Exception):
            status = max(status, FAILED if isinstance(answer, ServerError) else NO_SERVER)
            print_error(f"geartrain: {describe_server_error(server, answer)}")
        else:
            good[server] = answer
    return good, status
