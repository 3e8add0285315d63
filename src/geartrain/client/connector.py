"""Connects to one job server on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from geartrain.client.session import ClientSession, SessionListener
from geartrain.session import open_session

if TYPE_CHECKING:
    from geartrain.address import Address
    from geartrain.client.runtime import ClientRuntime
    from geartrain.connection import Connection

__all__ = ["Connector", "ConnectorListener"]


class ConnectorListener(SessionListener, Protocol):
    """Notified of how an attempt to connect ends."""

    def on_connected(self, session: ClientSession) -> None:
        """Called with the new session."""

    def on_unreachable(self, error: Exception, *, is_outage: bool = True) -> None:
        """Called with the error that ended the attempt; it is no outage if the application cancelled it."""


class Connector:
    """
    Makes one attempt at a time to connect to a job server. It never retries by itself.

    Args:
        address: The job server.
        runtime: What the parts of the client share.
        listener: Notified of how an attempt ends, and of what happens to the session that it makes.
    """

    def __init__(self, address: Address, runtime: ClientRuntime, listener: ConnectorListener) -> None:
        self._address = address
        self._name = str(address)
        self._runtime = runtime
        self._listener = listener
        self._attempt: asyncio.Task[None] | None = None

    @property
    def attempt(self) -> asyncio.Task[None] | None:
        """The attempt that is in progress."""
        return self._attempt

    def start(self) -> None:
        """Start an attempt, unless one is in progress."""
        if self._attempt is None:
            attempt = self._runtime.spawn(self._connect(), f"geartrain connects to {self._name}")
            if not attempt.done():  # an eager task (Python 3.12) may have failed by now
                self._attempt = attempt

    def cancel(self) -> None:
        """Cancel the attempt that is in progress, without a notification."""
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    async def _connect(self) -> None:
        try:
            session = await self._open_session()
        except asyncio.CancelledError:
            # An application may cancel all tasks when it ends; then nothing else ends what waits for this one.
            if self._attempt is asyncio.current_task():
                self._attempt = None
                error = ConnectionAbortedError(f"the attempt to connect to {self._name} was cancelled")
                self._listener.on_unreachable(error, is_outage=False)
            raise
        except Exception as error:  # noqa: BLE001  # any failure must reach what waits for the connection
            self._attempt = None
            self._listener.on_unreachable(error)
        else:
            self._attempt = None
            self._listener.on_connected(session)

    async def _open_session(self) -> ClientSession:
        config = self._runtime.config
        session = await open_session(
            self._address,
            self._create_session,
            timeout=config.connect_timeout,
            tls=config.tls,
            heartbeat=config.heartbeat,
        )
        if session.is_closed:
            self._runtime.keep_until_closed(session.connection)
            raise session.error or ConnectionResetError(f"{self._name} closed the connection immediately")
        return session

    def _create_session(self, connection: Connection) -> ClientSession:
        return ClientSession(connection, self._name, self._runtime, self._listener)
