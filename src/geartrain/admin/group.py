"""The admin clients of many job servers, asked at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from geartrain.address import parse_addresses
from geartrain.admin.admin import Admin
from geartrain.errors import GearmanError, LocalProtocolError
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.text_replies import FunctionStatus, ListedJob, ListedUnique, PriorityStatus, WorkerStatus

__all__ = ["AdminGroup"]

T = TypeVar("T")


class AdminGroup:
    """
    An :class:`~geartrain.Admin` for each of several job servers, all asked at once.

    What one job server answers, or how it fails, is no other's concern: every call returns a dict that holds, for each
    address, the answer or the error in place of one. :meth:`ask` makes any call of ``Admin``; the other methods are
    short for the frequent ones.

    Args:
        job_servers: Their addresses.
        timeout: As for ``Admin``, like all that follow.
        connect_timeout: Seconds for one attempt to connect.
        tls: Speak TLS to all of them, with this context.
        max_answer_size: The most bytes that one answer may have.
        heartbeat: Seconds of silence after which an idle connection is probed; ``None`` turns this off.
    """

    def __init__(
        self,
        job_servers: Iterable[str] | str = ("127.0.0.1",),
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
            for address in parse_addresses(job_servers)
        }

    @property
    def admins(self) -> Mapping[str, Admin]:
        """Each job server's admin client, by address in the order given, for a call that is for it alone."""
        return MappingProxyType(self._admins)

    async def ask(self, call: Callable[[Admin], Awaitable[T]]) -> dict[str, T | GearmanError]:
        """
        Make a call to every job server: ``await group.ask(lambda admin: admin.create_function("resize"))``.

        Returns:
            By address, in the order given: what the call returned, or the ``GearmanError`` that it raised.

        Raises:
            Exception: What the call raises for the caller's own fault (``LocalProtocolError``, ``ValueError``, ...) is
                raised here too, when all of them have ended.
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
        """Ask all for :meth:`Admin.status`."""
        return await self.ask(Admin.status)

    async def priority_status(self) -> dict[str, list[PriorityStatus] | GearmanError]:
        """Ask all for :meth:`Admin.priority_status`."""
        return await self.ask(Admin.priority_status)

    async def workers(self) -> dict[str, list[WorkerStatus] | GearmanError]:
        """Ask all for :meth:`Admin.workers`."""
        return await self.ask(Admin.workers)

    async def show_jobs(self) -> dict[str, list[ListedJob] | GearmanError]:
        """Ask all for :meth:`Admin.show_jobs`."""
        return await self.ask(Admin.show_jobs)

    async def show_unique_jobs(self) -> dict[str, list[ListedUnique] | GearmanError]:
        """Ask all for :meth:`Admin.show_unique_jobs`."""
        return await self.ask(Admin.show_unique_jobs)

    async def version(self) -> dict[str, str | GearmanError]:
        """Ask all for :meth:`Admin.version`."""
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
