"""An in-process job server for development and tests. It keeps nothing on disk."""

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


_PORT_ATTEMPTS: Final = 20  # to find a port that is free on all addresses


def _loopback_for(host: str) -> str:
    """Return an address at which clients on this machine reach a server that listens on ``host``."""
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

    It implements the full gearmand protocol but keeps everything in memory, so all jobs are lost when the process
    exits: for production, run gearmand. Use it with ``async with``, or call :meth:`start` and :meth:`aclose`. After
    ``aclose`` it can be started again on the same port; it is then empty, and numbers handles from 1.

    Args:
        host: The name or address to listen on: all addresses of a name, or all addresses of this machine if empty.
        port: A TCP port. 0 picks one that is free on all addresses; see :attr:`address`.
        tls: The server's TLS context; ``None`` for no TLS. If its ``verify_mode`` is ``ssl.CERT_REQUIRED``, clients
            without a trusted certificate are refused.
        job_retries: Fail a job after this many workers were lost while running it, as ``-j`` of gearmand 1.1.20; 0 for
            no limit.
        exceptions: Forward WORK_EXCEPTION also to clients that did not ask for it, as ``--exceptions`` of gearmand.
        round_robin: Serve the functions of each worker in turn, as ``--round-robin`` of gearmand. By default, a worker
            gets the jobs of its most recently registered function first.
        handle_prefix: The prefix of all handles, before their number; defaults to ``H:`` and the name of the machine.
        max_packet_size: The maximum size of a workload, a result or an update, in bytes. A larger workload is refused
            with ERROR, a larger result or update fails its job; neither is stored.
        max_queue_size: The maximum size of all jobs and functions together, in bytes. Beyond it, submissions are
            refused with QUEUE_ERROR.
        max_backlog: The maximum size of a peer's unread output, in bytes. Beyond it, the peer is disconnected.
        max_connections: The maximum number of connections. It is lowered to keep 512 of the process's file descriptors
            free, or half of them if there are fewer than 1024. One more connection evicts a closing one that does not
            read its last responses, or the oldest one that has never sent a complete request; if there is none, the new
            connection is refused.
        max_buffer_size: The maximum size of the buffers of all connections together, in bytes: incomplete packets,
            pending requests and unread responses. Beyond it, the connections with the largest buffers are evicted.
        clock: Returns the Unix time. It is called once, by :meth:`start`; after that, the event loop's clock is used.
        logger: Replaces ``geartrain.server``. INFO: connections, disconnections and their reasons. DEBUG: each packet,
            without workloads.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument has the wrong type.
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
            raise TypeError(f"host must be a name or an address, got {host!r}")
        if not callable(clock):
            raise TypeError(f"clock must be a function that returns the Unix time, got {clock!r}")
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
        The ``host:port`` at which a :class:`~geartrain.Client` on this machine reaches the server.

        If the server listens on all addresses, this is a loopback address.
        """
        return str(Address(_loopback_for(self._host), self._port, tls=self._tls is not None))

    async def start(self) -> None:
        """
        Start listening.

        Raises:
            OSError: If the port is in use, or the host is not an address of this machine.
            RuntimeError: If the server is already running.
        """
        if self._state is not None:
            raise RuntimeError(f"the job server at {self.address} is already running")

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
            # Connections and timers inherit the context of the task that listens, and outlive the caller of start().
            await loop.create_task(self._listen(state), context=Context())
        except BaseException:  # cancellation as well: a socket may be bound already
            self._stop()
            raise
        self._logger.info("listening on %s", self.address)

    async def _listen(self, state: ServerState) -> None:
        server = await self._bind(self._make_factory(state))
        protect_on_fork(self, JobServer._descriptors)
        await server.start_serving()

    async def _bind(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
        """Bind a socket for each address, all on the same port."""
        loop, port = asyncio.get_running_loop(), self._port
        hosts: str | list[str] = self._host
        if (
            self._host and parse_numeric(self._host, port) is None
        ):  # the event loop would resolve it in the default executor
            hosts = [sockaddr[0] for _, sockaddr in await resolve(self._host, port)]
        for attempt in range(_PORT_ATTEMPTS):
            try:
                # With start_serving=True, asyncio waits for a turn of the loop at the end; if that is cancelled, there
                # is no server object to close.
                self._server = server = await loop.create_server(factory, hosts, port, start_serving=False)
            except OSError as error:
                if self._port != 0 or error.errno != errno.EADDRINUSE or attempt == _PORT_ATTEMPTS - 1:
                    raise
                port = 0  # a port that was free on one address is in use on another
                continue
            ports = {sock.getsockname()[1] for sock in server.sockets}
            port = server.sockets[0].getsockname()[1]
            if len(ports) == 1:
                self._port = port
                return server
            server.close()  # the system picked different ports
        raise OSError(errno.EADDRINUSE, f"no port is free on all addresses of {self._host!r}")

    def _make_factory(self, state: ServerState) -> Callable[[], asyncio.BaseProtocol]:
        """Return the factory of protocols for accepted connections."""
        if self._tls is None:
            return lambda: PeerConnection(state)
        max_handshakes = max(1, state.limits.connections // 4)
        self._tls_acceptor = TlsAcceptor(
            self._tls, lambda: PeerConnection(state), state.refuse, max_handshakes=max_handshakes
        )
        return self._tls_acceptor.accept

    async def aclose(self) -> None:
        """
        Close the port and all connections immediately, and drop all jobs.

        If this is cancelled, everything is closed as well; the sockets are closed in the next turns of the loop.
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
        """Return the file descriptors of the listening sockets."""
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
