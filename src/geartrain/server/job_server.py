"""A job server in this process, for a first run and for tests. It keeps nothing on disk."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import platform
import ssl
import time
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import Final, Self

from geartrain.address import DEFAULT_PORT, Address
from geartrain.fork_safety import protect_on_fork
from geartrain.loop_binding import LoopBinding
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.server.broker import DEFAULT_MAX_BACKLOG, DEFAULT_MAX_QUEUE_SIZE, Broker
from geartrain.resolver import parse_numeric, resolve
from geartrain.server.peer_connections import (
    DEFAULT_MAX_BUFFER_SIZE,
    DEFAULT_MAX_CONNECTIONS,
    Limits,
    PeerConnection,
    ServerState,
    connection_limit,
)
from geartrain.server.tls_acceptor import TlsAcceptor
from geartrain.tls import check_tls
from geartrain.validation import MAX_WORKLOAD, check_count, check_flag, check_logger, encode_name
from geartrain.version import __version__

__all__ = ["JobServer"]


_PORT_ATTEMPTS: Final = 20  # to find one that is free on all addresses


def _reachable(host: str) -> str:
    """Return an address by which a server that listens on ``host`` is reached from this machine."""
    if not host:
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


class JobServer:
    """
    A Gearman job server in the running event loop.

    It speaks the whole protocol as gearmand does, and is as good as gone when its process ends: for production, run
    gearmand. Use it with ``async with``, or :meth:`start` it and :meth:`aclose` it. After ``aclose`` it can be started
    again, on the same port, with nothing in it and handles from 1 on.

    Args:
        host: The name or address to listen on: all addresses of a name, or all of this machine if it is empty.
        port: A TCP port. 0 picks one that is free on all addresses; see :attr:`address`.
        tls: Speaks TLS, by this context for a server's side. If its ``verify_mode`` is ``ssl.CERT_REQUIRED``, clients
            without a certificate that it trusts are refused.
        job_retries: How many workers a job is given to, one after the other, before it fails, as ``-j`` of
            gearmand 1.1.20; 0 for any number.
        exceptions: Forward WORK_EXCEPTION also to clients that did not ask for it, as ``--exceptions`` of gearmand.
        round_robin: Serve the functions of each worker in turn, as ``--round-robin`` of gearmand. By default a worker
            gets the jobs of the function that it registered last first.
        handle_prefix: What every handle begins with, in front of its number; by default ``H:`` and the name of the
            machine.
        max_packet_size: The most bytes that a workload, a result or an update may have. A longer workload is refused by
            ERROR, a longer result or update fails its job; neither is stored.
        max_queue_size: Bytes that all jobs and functions together may take; over it submissions are refused with
            QUEUE_ERROR.
        max_backlog: Bytes that a peer may leave unread before it is cut off.
        max_connections: Connections at a time; fewer where that would leave less than 512 of the file descriptors that
            the process may have, or half of them if these are fewer than 1024. One more takes the place of one that is
            to be closed and does not read its last answers, or of the oldest that has never sent a whole request; if
            there is none, it is refused.
        max_buffer_size: Bytes that all connections together may hold, of packets that are still coming in, of requests
            that wait for their turn, and of answers that are not read. Those that hold most are cut off.
        clock: Tells the Unix time. It is read once, by :meth:`start`; from then on the event loop's clock counts.
        logger: Instead of ``geartrain.server``. INFO: peers that come and go, and why one was cut off. DEBUG: each
            packet, with workloads elided.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        tls: ssl.SSLContext | None = None,
        job_retries: int = 0,
        exceptions: bool = False,
        round_robin: bool = False,
        handle_prefix: str | None = None,
        max_packet_size: int = DEFAULT_MAX_SIZE,
        max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE,
        max_backlog: int = DEFAULT_MAX_BACKLOG,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        max_buffer_size: int = DEFAULT_MAX_BUFFER_SIZE,
        clock: Callable[[], float] = time.time,
        logger: logging.Logger | None = None,
    ) -> None:
        if not isinstance(host, str):
            raise TypeError(f"host is a name or an address, got {host!r}")
        if not callable(clock):
            raise TypeError(f"clock is a function that tells the Unix time, got {clock!r}")
        self._host = host
        self._port = check_count("port", port, 0, 65535)
        self._tls = check_tls(tls, server_side=True)
        prefix = f"H:{platform.node()}" if handle_prefix is None else handle_prefix
        self._prefix = encode_name("handle_prefix", prefix)
        self._job_retries = check_count("job_retries", job_retries, 0)
        self._exceptions = check_flag("exceptions", exceptions)
        self._round_robin = check_flag("round_robin", round_robin)
        self._max_packet_size = check_count("max_packet_size", max_packet_size, 1, MAX_WORKLOAD)
        self._max_queue_size = check_count("max_queue_size", max_queue_size, 1)
        self._max_backlog = check_count("max_backlog", max_backlog, 1)
        self._max_connections = check_count("max_connections", max_connections, 1)
        self._max_buffer_size = check_count("max_buffer_size", max_buffer_size, 1)
        self._clock = clock
        self._logger = check_logger(logger, "geartrain.server")
        self._server: asyncio.Server | None = None
        self._state: ServerState | None = None
        self._tls_acceptor: TlsAcceptor | None = None

    @property
    def address(self) -> str:
        """
        The ``host:port`` by which a :class:`~geartrain.Client` on this machine reaches it.

        If it listens on all addresses of this machine, this is the one of the loopback interface.
        """
        return str(Address(_reachable(self._host), self._port, tls=self._tls is not None))

    async def start(self) -> None:
        """
        Begin to listen.

        Raises:
            OSError: If the port is taken, or the host is none of this machine's.
            RuntimeError: If it is running already.
        """
        if self._state is not None:
            raise RuntimeError(f"the job server at {self.address} is running already")

        broker = Broker(
            handle_prefix=self._prefix,
            job_retries=self._job_retries,
            exceptions=self._exceptions,
            round_robin=self._round_robin,
            max_packet_size=self._max_packet_size,
            max_queue_size=self._max_queue_size,
            max_backlog=self._max_backlog,
            version=f"geartrain-{__version__}".encode(),
            pid=os.getpid(),
        )
        loop = asyncio.get_running_loop()
        limits = Limits(connection_limit(self._max_connections), self._max_buffer_size, self._max_backlog)
        state = self._state = ServerState(broker, LoopBinding(), self._clock() - loop.time(), limits, self._logger)
        try:
            # Connections and timers are made in the context of whoever listens, and outlive the caller.
            await loop.create_task(self._listen(state), context=Context())
        except BaseException:
            self._stop()
            raise
        self._logger.info("listening on %s", self.address)

    async def _listen(self, state: ServerState) -> None:
        server = await self._bind(self._make_factory(state))
        protect_on_fork(self, JobServer._descriptors)
        await server.start_serving()

    async def _bind(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Bind a socket for each address, all to the same port."""
        loop, port = asyncio.get_running_loop(), self._port
        hosts: str | list[str] = self._host
        if self._host and parse_numeric(self._host, port) is None:  # the event loop would use the default executor
            hosts = [sockaddr[0] for _, sockaddr in await resolve(self._host, port)]
        for attempt in range(_PORT_ATTEMPTS):
            try:
                # asyncio's way to listen at once ends by waiting for a turn of the loop, and whoever is cancelled in
                # that has no server to close.
                self._server = server = await loop.create_server(factory, hosts, port, start_serving=False)
            except OSError as error:
                if self._port != 0 or error.errno != errno.EADDRINUSE or attempt == _PORT_ATTEMPTS - 1:
                    raise
                port = 0  # what was free on one address is not on another
                continue
            ports = {sock.getsockname()[1] for sock in server.sockets}
            port = server.sockets[0].getsockname()[1]
            if len(ports) == 1:
                self._port = port
                return server
            server.close()  # the system picked a port for each address
        raise OSError(errno.EADDRINUSE, f"no port is free on all addresses of {self._host!r}")

    def _make_factory(self, state: ServerState) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of an accepted connection."""
        if self._tls is None:
            return lambda: PeerConnection(state)
        at_most = max(1, state.limits.connections // 4)
        self._tls_acceptor = TlsAcceptor(self._tls, lambda: PeerConnection(state), state.refuse, at_most=at_most)
        return self._tls_acceptor.accept

    async def aclose(self) -> None:
        """
        Close the port and all connections at once, and forget all jobs. Peers see the end of the connection.

        Cancelling it leaves nothing open either; the sockets are closed in the turns of the loop that follow.
        """
        state, acceptor = self._state, self._tls_acceptor
        if state is None:
            return
        state.binding.check(repr(self))
        self._stop()
        if acceptor is not None:
            await acceptor.wait_closed()
        await state.wait_closed()
        self._logger.info("closed %s", self.address)

    def _descriptors(self) -> list[int]:
        """Return the file descriptors of the sockets on which it listens."""
        return [sock.fileno() for sock in self._server.sockets] if self._server is not None else []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._tls_acceptor is not None:
            self._tls_acceptor.close()
        if self._state is not None:
            self._state.close()
        self._server = self._state = self._tls_acceptor = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
