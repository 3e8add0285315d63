"""One job server, as a worker sees it: kept connected for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from geartrain.backoff import Backoff
from geartrain.connect import connect
from geartrain.outage import Outage
from geartrain.worker.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geartrain.address import Address
    from geartrain.protocol.worker import Assignment
    from geartrain.worker.function import Function
    from geartrain.worker.options import WorkerOptions
    from geartrain.worker.slots import Slots
    from geartrain.worker.statistics import Counts

__all__ = ["Link"]


class Link:
    """
    The way to one job server.

    Attributes:
        name: Its address, as users read it.
        session: The present connection, or ``None``.
        functions: What is registered at each connect, by ability.
        counts: What became of its jobs.
        outage: Reports that it cannot be reached.
    """

    def __init__(
        self,
        address: Address,
        options: WorkerOptions,
        functions: Mapping[bytes, Function],
        slots: Slots[Session, Assignment],
        counts: Counts,
    ) -> None:
        self.address = address
        self.name: str = str(address)
        self.options = options
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.slots = slots
        self.counts = counts
        self.functions = functions
        self.session: Session | None = None
        self.outage: Outage = Outage(self.name, options.logger)
        self._backoff = Backoff()

    async def keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost, until this is cancelled."""
        while True:
            await self._connect()
            if self.session is not None:
                await self.session.connection.wait_closed()
            await asyncio.sleep(self._backoff.next())

    async def _connect(self) -> None:
        options = self.options
        try:
            connection = await connect(
                self.address,
                lambda connection: Session(connection, self),
                timeout=options.connect_timeout,
                tls=options.tls,
                heartbeat=options.heartbeat,
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that is no name in the DNS
            self.outage.connect_failed(error, self.loop.time())
            return
        session = connection.receiver
        assert isinstance(session, Session)
        if session.lost:
            return
        self.session = session
        self.outage.connected()
        if session.heard:
            self.heard(session)
        session.start()

    def heard(self, session: Session) -> None:
        """Take note that the job server has sent something over a connection for the first time."""
        if session is self.session:
            self.outage.end(self.loop.time())

    def session_lost(self, session: Session, error: Exception | None) -> None:
        """Hear from a session that its connection is gone."""
        if session.protocol.answers:
            self._backoff.reset()  # only now is it known that a job server was there, not something that hangs up
        if session is self.session:
            self.session = None
            self.outage.connection_lost(error, self.loop.time())

    def tick(self, now: float) -> None:
        """Let the session see to what no packet tells."""
        if self.session is not None:
            self.session.tick(now)

    async def finish(self) -> None:
        """Close the connection when all results have arrived."""
        if (session := self.session) is not None:
            await session.deliver()
            self.abort()
            await session.connection.wait_closed()

    def abort(self) -> asyncio.Future[None] | None:
        """Close the connection now; the job server gives what was not ended to another worker. Return its end."""
        session, self.session = self.session, None
        if session is None:
            return None
        session.close()
        session.connection.abort()
        self.options.logger.info("closed the connection to %s", self.name)
        return session.connection.closed
