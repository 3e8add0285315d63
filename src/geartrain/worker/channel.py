"""A worker's channel to one job server, which reconnects until it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from geartrain.backoff import Backoff
from geartrain.outage import Outage
from geartrain.session import open_session
from geartrain.worker.session import WorkerSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geartrain.address import Address
    from geartrain.protocol.worker import Assignment
    from geartrain.worker.config import WorkerConfig
    from geartrain.worker.counters import WorkerCounters
    from geartrain.worker.function import Function
    from geartrain.worker.guard import Guard
    from geartrain.worker.observer import RunObserver
    from geartrain.worker.slots import Slots
    from geartrain.worker.thread_reader import ThreadReader

__all__ = ["ServerChannel"]


class ServerChannel:
    """
    The worker's channel to one job server. It is always connected, or about to be.

    Args:
        address: The job server.
        config: The worker's options.
        functions: Registered on each connection, by ability.
        slots: Shared by all channels of the worker.
        guard: Guards the slots and all sessions.
        counters: The jobs of this job server.
        on_failure: Called whenever :attr:`failure` is set.
        reader: Reads the connections in threads, or ``None``.
        observer: Notified of connections.

    Attributes:
        name: The job server's address, as users read it.
        session: The present connection, or ``None``.
        outage: Reports that the job server cannot be reached.
        failure: Why the last attempt to connect failed, until the job server has sent something.
    """

    def __init__(
        self,
        address: Address,
        config: WorkerConfig,
        functions: Mapping[bytes, Function],
        slots: Slots[WorkerSession, Assignment],
        guard: Guard,
        counters: WorkerCounters,
        on_failure: Callable[[], None],
        reader: ThreadReader | None,
        observer: RunObserver | None = None,
    ) -> None:
        self.address = address
        self.name: str = str(address)
        self.session: WorkerSession | None = None
        self.outage: Outage = Outage(self.name, config.logger)
        self.failure: Exception | None = None
        self._config = config
        self._functions = functions
        self._slots = slots
        self._guard = guard
        self._counters = counters
        self._on_failure = on_failure
        self._reader = reader
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff()

    @property
    def has_replied(self) -> bool:
        """Whether there is a connection on which the job server has replied."""
        return self.session is not None and self.session.has_replied

    async def keep_connected(self) -> None:
        """Connect, and reconnect whenever the connection is lost, until this is cancelled."""
        while True:
            await self._connect()
            if self.session is not None:
                await self.session.connection.wait_closed()
            await asyncio.sleep(self._backoff.next())

    async def _connect(self) -> None:
        config = self._config
        try:
            session = await open_session(
                self.address,
                lambda connection: WorkerSession(
                    connection, self.name, config, self._slots, self._guard, self._counters, self, self._reader
                ),
                timeout=config.connect_timeout,
                tls=config.tls,
                heartbeat=config.heartbeat,
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that is not a valid DNS name
            self.outage.connect_failed(error, self._loop.time())
            self._fail(error)
            return
        if session.is_closed:
            return
        self.session = session
        self.outage.connected()
        if config.metrics is not None:
            config.metrics.on_connected(self.name)
        if self._observer is not None:
            self._observer.on_connected(session)
        if session.has_received:
            self.on_first_bytes(session)
        session.start(self._functions.values())

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._on_failure()

    def register(self, function: Function) -> None:
        """Register one more function with the job server, if there is a connection."""
        if self.session is not None:
            self.session.register(function)

    def on_tick(self, now: float) -> None:
        """Do the periodic work of the connection, if there is one."""
        if self.session is not None:
            self.session.on_tick(now)

    # Session callbacks (SessionListener).

    def on_first_bytes(self, session: WorkerSession) -> None:
        """End the outage: the job server has sent something."""
        if session is self.session:
            self.outage.end(self._loop.time())
            self.failure = None
            if self._observer is not None:
                self._observer.on_first_bytes(session)

    def on_session_lost(self, session: WorkerSession, error: Exception | None) -> None:
        """Handle the loss of a connection."""
        if session.has_replied:
            self._backoff.reset()  # only a reply shows that it was a job server, not something that hangs up
        if session is self.session:
            self.session = None
            self.outage.connection_lost(error, self._loop.time())
            self._report_disconnected(session)
            if not session.has_replied:
                self._fail(error or ConnectionError(f"{self.name} closed the connection"))

    def _report_disconnected(self, session: WorkerSession) -> None:
        if self._config.metrics is not None:
            self._config.metrics.on_disconnected(self.name)
        if self._observer is not None:
            self._observer.on_disconnected(session)

    # Shutdown.

    async def finish(self) -> None:
        """Close the connection once all results have arrived."""
        if (session := self.session) is not None:
            await session.wait_until_delivered()
            self.abort()
            await session.connection.wait_closed()

    def abort(self) -> asyncio.Future[None] | None:
        """
        Close the connection immediately; the job server gives its jobs to other workers.

        Returns:
            A future that is done once the connection is closed, or ``None`` if there is no connection.
        """
        session, self.session = self.session, None
        if session is None:
            return None
        session.close()
        session.connection.abort()
        self._report_disconnected(session)
        self._config.logger.info("closed the connection to %s", self.name, extra={"server": self.name})
        return session.connection.closed
