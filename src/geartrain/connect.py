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

_KEEPALIVE_PROBES: Final = 3  # unanswered ones, after which the system closes a connection


async def connect(
    address: Address,
    receiver_factory: Callable[[Connection], Receiver],
    *,
    timeout: float | None,
    tls: ssl.SSLContext | None = None,
    heartbeat: float | None = None,
) -> Connection:
    """
    Connect to a job server; a name is looked up afresh, and all its addresses are tried.

    Each address gets an equal share of the time that is left, so that one that drops packets cannot use it all up.

    Call it in a task of its own: the connection keeps the ``contextvars`` context in which it is made.

    Args:
        address: Where to.
        receiver_factory: Called with each connection that is tried; makes what hears of it.
        timeout: Seconds for all of it, look-up and TLS included; ``None`` waits for as long as the system does.
        tls: Speak TLS, with this context, and verify the server's certificate against ``address.host``. Default: only
            where the address says ``gearmans://``, with Python's default context, which verifies certificate and name.
        heartbeat: Seconds of silence after which the system's TCP keep-alive asks the peer; ``None`` leaves the
            system's own interval, two hours on Linux.

    Raises:
        OSError: If no address could be reached; ``TimeoutError`` and ``ssl.SSLError`` are among these.
        UnicodeError: If the host is no name that can be looked up.
    """
    loop = asyncio.get_running_loop()
    if tls is None and address.tls:
        tls = default_tls()
    deadline = None if timeout is None else loop.time() + timeout
    async with _until(deadline, f"the look-up of {address.host} took longer than {timeout} s"):
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
    raise errors[-1] if errors else OSError(f"{address.host} has no address of this machine's protocol families")


async def _create(receiver_factory: Callable[[Connection], Receiver], **how: Any) -> Connection:
    """Have the loop create a connection; the arguments are those of ``create_connection``."""
    made: list[Connection] = []

    def make() -> Connection:
        made.append(Connection(receiver_factory))
        return made[-1]

    try:
        await asyncio.get_running_loop().create_connection(make, **how)
    except BaseException:
        for connection in made:
            connection.abort()  # when this is cancelled, uvloop closes what it has made without a word to it
        raise
    return made[-1]


@contextlib.asynccontextmanager
async def _until(deadline: float | None, words: str) -> AsyncIterator[None]:
    """Raise a ``TimeoutError`` with these words when the time is over."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise (error if str(error) else TimeoutError(words)) from None  # the system's own timeout has its own words


async def open_socket(address: SocketAddress, heartbeat: float | None) -> socket.socket:
    """
    Return a socket that is connected to a numeric address.

    The event loops have ``sock_connect`` for this, but uvloop's drops the scope id of an IPv6 address, and asyncio's
    looks one up in the default executor.

    Raises:
        OSError: If it cannot be reached.
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
    except BaseException:
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
    Have the system ask after a silent peer at the interval of the heartbeat, where it can be set.

    TCP_USER_TIMEOUT would find a dead wire as well, but closes the connection of a live peer that reads nothing for a
    while.
    """
    seconds = min(max(1, math.ceil(heartbeat)), 32767)  # Linux takes no more
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # the latter on macOS
    for option, value in (
        (idle, seconds),
        (getattr(socket, "TCP_KEEPINTVL", None), max(1, seconds // _KEEPALIVE_PROBES)),
        (getattr(socket, "TCP_KEEPCNT", None), _KEEPALIVE_PROBES),
    ):
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
