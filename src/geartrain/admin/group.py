"""An admin client for several job servers at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from geartrain.address import read_addresses
from geartrain.admin.admin import Admin
from geartrain.errors import GearmanError, LocalProtocolError
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.text_replies import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus

__all__ = ["AdminGroup"]

T = TypeVar("T")


class AdminGroup:
    """
    Queries and configures several job servers concurrently, with one :class:`~geartrain.Admin` for each.

    A failing job server does not affect the others: every call returns a dict that contains, for each address, the
    answer or the error. :meth:`ask` makes any call of ``Admin``; the other methods are shortcuts for frequent calls.

    Args:
        job_servers: Their addresses. Default to those in the environment variable ``GEARMAN_SERVERS``, separated by
            commas, or else to 127.0.0.1:4730.
        timeout: As for ``Admin``, like all that follow.
        connect_timeout: Maximum time for one attempt to connect (seconds).
        tls: Use TLS with this context for all job servers.
        max_answer_size: Maximum size of one answer in bytes.
        heartbeat: How long an idle connection may be silent before it is probed (seconds); ``None`` disables it.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str | None = None,
        *,
        timeout: float | None = 10.0,
        connect_timeout: float | None = 5.0,
        tls: ssl.SSLContext | None = None,
        max_answer_size: int = DEFAULT_MAX_SIZE,
        heartbeat: float | None = 30.0,
    ) -> None:
        self._admins = {
            str(address): Admin(
                str(address),
                timeout=timeout,
                connect_timeout=connect_timeout,
                tls=tls,
                max_answer_size=max_answer_size,
                heartbeat=heartbeat,
            )
            for address in read_addresses(job_servers)
        }

    @property
    def admins(self) -> Mapping[str, Admin]:
        """Each job server's admin client, by address in the order given, for calls to a single job server."""
        return MappingProxyType(self._admins)

    async def ask(self, call: Callable[[Admin], Awaitable[T]]) -> dict[str, T | GearmanError]:
        """
        Make a call to every job server: ``await group.ask(lambda admin: admin.create_function("resize"))``.

        Returns:
            What the call returned, or the ``GearmanError`` that it raised, by address in the order given.

        Raises:
            Exception: An error of the caller (``LocalProtocolError``, ``ValueError``, ...), raised when all calls have
                ended.
        """

        async def one(admin: Admin) -> T:
            return await call(admin)

        outcomes = await asyncio.gather(*map(one, self._admins.values()), return_exceptions=True)
        answers: dict[str, T | GearmanError] = {}
        for server, outcome in zip(self._admins, outcomes, strict=True):
            if isinstance(outcome, LocalProtocolError):
                raise outcome
            if isinstance(outcome, BaseException) and not isinstance(outcome, GearmanError):
                raise outcome
            answers[server] = outcome
        return answers

    async def status(self) -> dict[str, list[FunctionStatus] | GearmanError]:
        """Call :meth:`Admin.status` of every job server."""
        return await self.ask(Admin.status)

    async def priority_status(self) -> dict[str, list[PriorityStatus] | GearmanError]:
        """Call :meth:`Admin.priority_status` of every job server."""
        return await self.ask(Admin.priority_status)

    async def workers(self) -> dict[str, list[WorkerStatus] | GearmanError]:
        """Call :meth:`Admin.workers` of every job server."""
        return await self.ask(Admin.workers)

    async def show_jobs(self) -> dict[str, list[ListedJob] | GearmanError]:
        """Call :meth:`Admin.show_jobs` of every job server."""
        return await self.ask(Admin.show_jobs)

    async def show_unique_jobs(self) -> dict[str, list[ListedUnique] | GearmanError]:
        """Call :meth:`Admin.show_unique_jobs` of every job server."""
        return await self.ask(Admin.show_unique_jobs)

    async def version(self) -> dict[str, str | GearmanError]:
        """Call :meth:`Admin.version` of every job server."""
        return await self.ask(Admin.version)

    async def aclose(self) -> None:
        """Close all connections, as :meth:`Admin.aclose` does."""
        await asyncio.gather(*(admin.aclose() for admin in self._admins.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
