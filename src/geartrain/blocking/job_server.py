"""The in-process job server for programs without asyncio."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Self

from geartrain import JobServer as AsyncJobServer
from geartrain.blocking.resident import Closeable, Resident

__all__ = ["JobServer"]

_MIB = 1024 * 1024


class JobServer(Closeable):
    """
    A Gearman job server in geartrain's thread, for tests and notebooks.

    ``with JobServer(port=0) as server:`` runs it for the block; clients reach it at ``server.address``. Takes the
    arguments of :class:`geartrain.JobServer`, and raises the same errors.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 4730,
        *,
        tls: ssl.SSLContext | None = None,
        job_retries: int = 0,
        exceptions: bool = False,
        round_robin: bool = False,
        handle_prefix: str | None = None,
        max_packet_size: int = 64 * _MIB,
        max_queue_size: int = 1024 * _MIB,
        max_backlog: int = 256 * _MIB,
        max_connections: int = 10_000,
        max_buffer_size: int = 1024 * _MIB,
        clock: Callable[[], float] = time.time,
        logger: logging.Logger | None = None,
    ) -> None:
        make = partial(
            AsyncJobServer,
            host,
            port,
            tls=tls,
            job_retries=job_retries,
            exceptions=exceptions,
            round_robin=round_robin,
            handle_prefix=handle_prefix,
            max_packet_size=max_packet_size,
            max_queue_size=max_queue_size,
            max_backlog=max_backlog,
            max_connections=max_connections,
            max_buffer_size=max_buffer_size,
            clock=clock,
            logger=logger,
        )
        make()  # raises for wrong arguments
        self._resident: Resident[AsyncJobServer] = Resident(make, AsyncJobServer.aclose)

    @property
    def address(self) -> str:
        """
        The ``host:port`` at which a :class:`~geartrain.Client` on this machine reaches the server.

        If the server listens on all addresses, this is a loopback address.
        """
        return self._resident.instance.address

    def start(self) -> None:
        """
        Start listening.

        Raises:
            OSError: If the port is in use, or the host is not an address of this machine.
            RuntimeError: If the server is already running.
        """
        return self._resident.call(AsyncJobServer.start)

    # Shutdown.

    def close(self) -> None:
        """Close the port and all connections immediately, and drop all jobs."""
        self._resident.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __repr__(self) -> str:
        return f"<JobServer {self.address}>"
