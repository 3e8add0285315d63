"""What one scrape reads from the job servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import NamedTuple, TypeVar

from geartrain.admin import Admin, AdminGroup
from geartrain.errors import GearmanError, ServerError
from geartrain.protocol.text_replies import FunctionStatus, PriorityStatus

__all__ = ["Reading", "SharedReader"]

T = TypeVar("T")


class Reading(NamedTuple):
    """
    What one job server has answered.

    Attributes:
        functions: Its functions.
        priorities: The queued jobs of each function by priority; ``None`` if it does not report them.
        version: Its version; ``None`` if it does not report it.
    """

    functions: list[FunctionStatus]
    priorities: list[PriorityStatus] | None
    version: str | None


class SharedReader:
    """
    Reads all job servers; calls at the same time share one reading.

    However often and by however many it is scraped, a job server that is slow or hangs has at most one request of each
    kind to answer.

    Args:
        group: The job servers.
    """

    def __init__(self, group: AdminGroup) -> None:
        self._group = group
        self._reading: asyncio.Task[dict[str, Reading | GearmanError]] | None = None

    async def read(self) -> Mapping[str, Reading | GearmanError]:
        """Return by address what each job server has answered, or why it did not."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._group.ask(_read))
        return await asyncio.shield(self._reading)


async def _read(admin: Admin) -> Reading:
    functions, priorities, version = await asyncio.gather(
        admin.status(), _if_supported(admin.priority_status()), _if_supported(admin.version())
    )
    return Reading(functions, priorities, version)


async def _if_supported(answer: Awaitable[T]) -> T | None:
    try:
        return await answer
    except ServerError:
        return None
