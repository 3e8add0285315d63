"""Connects to a job server: name lookup, TCP with keep-alive, and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from geartrain.address import Address
from geartrain.connection import Connection, Receiver
from geartrain.resolver import SocketAddress, resolve
from geartrain.tls import default_tls, explain_tls

__all__ = ["connect", "open_socket"]

_KEEPALIVE_PROBES: Final = 3  # the system closes a connection after this many unanswered probes


async def connect(
    address: Address,
    receiver_factory: Callable[[Connection], Receiver],
    *,
    timeout: float | None,
    tls: ssl.SSLContext | None = None,
    heartbeat: float | None = None,
) -> Connection:
    """
    Connect to a job server. A name is looked up each time, and all its addresses are tried.

    Each address gets an equal share of the remaining time, so that one that drops packets cannot use it all.

    Call it in a separate task: the connection keeps the ``contextvars`` context in which it is created.

    Args:
        address: The job server.
        receiver_factory: Called with each new connection; returns its receiver.
        timeout: Maximum time for everything, including lookup and TLS (seconds); ``None`` uses the system's limit.
        tls: Use TLS with this context. By default TLS is used only for a ``gearmans://`` address, with Python's default
            context, which verifies the certificate and the host name.
        heartbeat: The idle time before TCP keep-alive probes the peer (seconds); ``None`` keeps the system's interval,
            two hours on Linux.

    Raises:
        OSError: If no address could be reached. ``TimeoutError`` and ``ssl.SSLError`` are subclasses.
        UnicodeError: If the host is not a valid name.
    """
    loop = asyncio.get_running_loop()
    if tls is None and address.tls:
        tls = default_tls()
    deadline = None if timeout is None else loop.time() + timeout
    async with _until(deadline, f"the lookup of {address.host} took longer than {timeout} s"):
        found = await resolve(address.host, address.port)
    errors: list[OSError] = []
    for number, (family, sockaddr) in enumerate(found):
        host = sockaddr[0]
        share = None if deadline is None else loop.time() + (deadline - loop.time()) / (len(found) - number)
        try:
            # TLS starts once the socket is connected: an unreachable server and one without TLS give different errors.
            async with _until(share, f"no answer from {host} in {timeout} s"):
                sock = await open_socket((family, sockaddr), heartbeat)
                if tls is None:
                    return await _create(receiver_factory, sock=sock)
            async with _until(share, f"no TLS handshake with {host} in {timeout} s; it may not speak TLS on this port"):
                return await _create(receiver_factory, sock=sock, ssl=tls, server_hostname=address.tls_name)
        except OSError as error:
            errors.append(error if tls is None else explain_tls(error, host))
    raise (
        errors[-1]
        if errors
        else OSError(f"{address.host} has no address of a protocol family that this machine supports")
    )


async def _create(receiver_factory: Callable[[Connection], Receiver], **how: Any) -> Connection:
    """Create a connection; the arguments are those of ``loop.create_connection``."""
    made: list[Connection] = []

    def make() -> Connection:
        made.append(Connection(receiver_factory))
        return made[-1]

    try:
        await asyncio.get_running_loop().create_connection(make, **how)
    except BaseException:  # cancellation as well: uvloop then closes the transport without calling connection_lost
        for connection in made:
            connection.abort()
        raise
    return made[-1]


@contextlib.asynccontextmanager
async def _until(deadline: float | None, message: str) -> AsyncIterator[None]:
    """Raise a ``TimeoutError`` with this message at the deadline."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise (error if str(error) else TimeoutError(message)) from None  # the system's ETIMEDOUT has its own message


async def open_socket(address: SocketAddress, heartbeat: float | None) -> socket.socket:
    """
    Open a socket and connect it to a numeric address.

    The event loops have ``sock_connect`` for this, but uvloop's drops the scope id of an IPv6 address, and asyncio's
    looks one up in the default executor.

    Raises:
        OSError: If the address cannot be reached.
    """
    family, sockaddr = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if heartbeat is not None:
            _set_keepalive(sock, heartbeat)
        code = sock.connect_ex(sockaddr)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            await _wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"{os.strerror(code)}: {sockaddr[0]} port {sockaddr[1]}")
    except BaseException:  # cancellation as well: nothing else would close the socket
        sock.close()
        raise
    return sock


async def _wait_writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), lambda: None if writable.done() else writable.set_result(None))
    try:
        await writable
    finally:
        loop.remove_writer(sock.fileno())


def _set_keepalive(sock: socket.socket, heartbeat: float) -> None:
    """
    Enable TCP keep-alive at the interval of the heartbeat, where the system has options for it.

    TCP_USER_TIMEOUT would detect a dead link as well, but also closes the connection of a live peer that does not read
    for a while.
    """
    seconds = min(max(1, math.ceil(heartbeat)), 32767)  # the maximum on Linux
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # the latter on macOS
    for option, value in (
        (idle, seconds),
        (getattr(socket, "TCP_KEEPINTVL", None), max(1, seconds // _KEEPALIVE_PROBES)),
        (getattr(socket, "TCP_KEEPCNT", None), _KEEPALIVE_PROBES),
    ):
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
