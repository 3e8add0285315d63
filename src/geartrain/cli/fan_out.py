"""Asks all job servers the same, and tells which of them did not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from geartrain.admin import Admin, AdminGroup
from geartrain.cli.console import complain
from geartrain.cli.exit_status import DONE, FAILED, NO_SERVER
from geartrain.cli.messages import explain_server
from geartrain.errors import ServerError

__all__ = ["ask_all", "sort_answers"]

T = TypeVar("T")


async def ask_all(servers: Sequence[str], call: Callable[[Admin], Awaitable[T]]) -> tuple[dict[str, T], int]:
    """
    Make a call to every job server.

    Returns:
        The answers by address, and the exit status: not 0 if one job server has not answered, or not as it should.
    """
    async with AdminGroup(servers) as admins:
        return sort_answers(await admins.ask(call))


def sort_answers(answers: Mapping[str, T | Exception]) -> tuple[dict[str, T], int]:
    """Tell of the errors, one sentence each; return the others, and the exit status."""
    status = DONE
    good: dict[str, T] = {}
    for server, answer in answers.items():
        if isinstance(answer, Exception):
            status = max(status, FAILED if isinstance(answer, ServerError) else NO_SERVER)
            complain(f"geartrain: {explain_server(server, answer)}")
        else:
            good[server] = answer
    return good, status
