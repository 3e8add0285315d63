"""Who works for which function, at each job server; asked at most once a second."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Final

from geartrain.errors import ClientDisconnectedError, NoServersError

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.client.pool import Pool

__all__ = ["Census"]

FRESH_FOR: Final = 1.0  # seconds that an answer counts


class Census:
    """The numbers of workers at the job servers of one client, remembered for a second."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._answers: dict[Address, tuple[float, Mapping[str, int]]] = {}
        self._asking: dict[Address, asyncio.Task[Mapping[str, int]]] = {}

    def known(self, address: Address, function: str) -> int | None:
        """Return how many workers a job server has for a function, or ``None`` where it is to be asked for that."""
        asked_at, counts = self._answers.get(address, (0.0, {}))
        if address not in self._answers or self._pool.loop.time() - asked_at >= FRESH_FOR:
            return None
        return counts.get(function, 0)

    def ask(self, address: Address) -> asyncio.Task[Mapping[str, int]]:
        """Have a job server asked, unless it is being asked already; all may wait for the same answer."""
        asking = self._asking.get(address)
        if asking is None:
            asking = self._asking[address] = self._pool.begin(
                self._count(address), f"geartrain counts the workers of {address}"
            )
            asking.add_done_callback(functools.partial(self._asked, address), context=Context())
        return asking

    def _asked(self, address: Address, asking: asyncio.Task[Mapping[str, int]]) -> None:
        del self._asking[address]
        if not asking.cancelled():
            asking.exception()  # for those who wait; they may have gone

    async def _count(self, address: Address) -> Mapping[str, int]:
        async with self._pool.make_admin(address) as admin:
            counts = {row.function: row.workers for row in await admin.status()}
        self._answers[address] = self._pool.loop.time(), counts
        return counts

    async def total(self, function: str, addresses: Iterable[Address]) -> int:
        """
        Return how many workers job servers have for a function, all together.

        Raises:
            NoServersError: If none of them could be asked.
            ClientDisconnectedError: If the client was disconnected before the answers.
        """
        addresses = tuple(addresses)
        unknown = [address for address in addresses if self.known(address, function) is None]
        # The tasks themselves are not awaited: others may wait for the same answers.
        asking = [self.ask(address) for address in unknown]
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
        return sum(self._answers[address][1].get(function, 0) for address in addresses if str(address) not in errors)
