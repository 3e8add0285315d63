"""Determines the state of a job, including what GET_STATUS does not report."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Final, NamedTuple, Self

from geartrain.admin import Admin
from geartrain.client import Client
from geartrain.errors import ServerError, ServerTimeoutError
from geartrain.handle import JobHandle, JobStatus

__all__ = ["JobMonitor", "JobState"]

# The list of jobs stops gearmand while it is made, for 0.5 us per job, so it is requested for at most 1 % of the time.
_PAUSE: Final = 100


class JobState(NamedTuple):
    """
    The state of a job.

    Attributes:
        status: The reply to GET_STATUS.
        is_cancelled: The job is queued, but was cancelled or has no client left, so no worker will get it.
    """

    status: JobStatus
    is_cancelled: bool

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to the job. This includes a job that the job server does not know."""
        return self.is_cancelled or not self.status.known


class JobMonitor:
    """
    Queries the state of one job. Use it as an asynchronous context manager.

    Args:
        client: Knows the job servers.
        target: The job's handle or unique. With a unique, cancelled jobs are not recognized: the list of jobs does not
            contain both.

    Attributes:
        was_known: Whether the job server has known the job.
    """

    def __init__(self, client: Client, target: JobHandle | str) -> None:
        self.was_known: bool = False
        self._client = client
        self._target = target
        self._admin: Admin | None = Admin(target.server) if isinstance(target, JobHandle) else None
        self._next_listing = -math.inf

    async def query(self) -> JobState:
        """Return the current state."""
        if not isinstance(self._target, JobHandle):
            status = await self._client.get_status_unique(self._target)
        else:
            status = await self._client.get_status(self._target)
        self.was_known = self.was_known or status.known
        return JobState(status, status.known and not status.running and await self._is_ignored())

    async def _is_ignored(self) -> bool:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if self._admin is None or not isinstance(self._target, JobHandle) or begin < self._next_listing:
            return False
        try:
            jobs = await self._admin.show_jobs()
        except (ServerError, ServerTimeoutError):  # Perl's job server has no such list
            self._next_listing = math.inf
            return False
        end = loop.time()
        self._next_listing = end + _PAUSE * (end - begin)
        return any(job.ignored and job.handle == self._target.handle for job in jobs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._admin is not None:
            await self._admin.aclose()
