"""Cached worker counts by job server and function, refreshed at most once a second."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Final

from geartrain.errors import ClientDisconnectedError, NoServersError

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.admin import Admin
    from geartrain.client.runtime import ClientRuntime

__all__ = ["WorkerCounts"]

FRESH_FOR: Final = 1.0  # seconds


class WorkerCounts:
    """
    The number of workers for each function at the job servers of one client.

    Args:
        runtime: What the parts of the client share.
        create_admin: Returns an admin client for a job server.
    """

    def __init__(self, runtime: ClientRuntime, create_admin: Callable[[Address], Admin]) -> None:
        self._runtime = runtime
        self._create_admin = create_admin
        self._counts: dict[Address, tuple[float, Mapping[str, int]]] = {}
        self._refreshing: dict[Address, asyncio.Task[Mapping[str, int]]] = {}

    def cached(self, address: Address, function: str) -> int | None:
        """Return the number of workers for a function at a job server, or ``None`` if that must be refreshed."""
        asked_at, counts = self._counts.get(address, (0.0, {}))
        if address not in self._counts or self._runtime.loop.time() - asked_at >= FRESH_FOR:
            return None
        return counts.get(function, 0)

    def refresh(self, address: Address) -> asyncio.Task[Mapping[str, int]]:
        """Start a query to a job server, unless one is in progress; callers share its task."""
        refresh = self._refreshing.get(address)
        if refresh is None:
            refresh = self._refreshing[address] = self._runtime.spawn(
                self._count(address), f"geartrain counts the workers of {address}"
            )
            refresh.add_done_callback(functools.partial(self._on_refreshed, address), context=Context())
        return refresh

    def _on_refreshed(self, address: Address, refresh: asyncio.Task[Mapping[str, int]]) -> None:
        del self._refreshing[address]
        if not refresh.cancelled():
            refresh.exception()  # mark it as retrieved: the callers may have stopped waiting

    async def _count(self, address: Address) -> Mapping[str, int]:
        async with self._create_admin(address) as admin:
            counts = {row.function: row.workers for row in await admin.status()}
        self._counts[address] = self._runtime.loop.time(), counts
        return counts

    async def total(self, function: str, addresses: Iterable[Address]) -> int:
        """
        Return the total number of workers that job servers have for a function.

        Raises:
            NoServersError: If none of them could be asked.
            ClientDisconnectedError: If the client was disconnected before the answers.
        """
        addresses = tuple(addresses)
        unknown = [address for address in addresses if self.cached(address, function) is None]
        # The tasks themselves are not awaited: others may wait for the same answers.
        asking = [self.refresh(address) for address in unknown]
        if asking:
            await asyncio.wait(asking)
        if any(task.cancelled() for task in asking):
            raise ClientDisconnectedError(f"the client was disconnected before the workers for {function} were counted")
        errors = {
            str(address): error
            for address, task in zip(unknown, asking, strict=True)
            if isinstance(error := task.exception(), Exception)
        }
        if len(errors) == len(addresses):
            reasons = "; ".join(f"{server}: {error}" for server, error in errors.items()) or "none is configured"
            raise NoServersError(f"no job server could be asked for its workers: {reasons}", errors=errors)
        return sum(self._counts[address][1].get(function, 0) for address in addresses if str(address) not in errors)
