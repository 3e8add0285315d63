"""Resolves host names in separate threads, so that a full default executor cannot delay a connection."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections import deque
from functools import partial
from typing import Any, Final, TypeAlias

from geartrain.unpatched import start_native_thread, unpatched

__all__ = ["MAX_THREADS", "Resolver", "SocketAddress", "parse_numeric", "resolve"]

# Maximum number of names resolved at a time. Each name has at most one thread, however many callers wait for it.
MAX_THREADS: Final = 64

SocketAddress: TypeAlias = tuple[int, tuple[Any, ...]]
"""A socket family and an address for ``connect``; an IPv6 address has a flow label and a scope id as well."""


class _Lookup:
    """One call of ``getaddrinfo`` and its waiters."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.waiters: dict[asyncio.Future[list[SocketAddress]], None] = {}

    def run(self) -> list[SocketAddress] | BaseException:
        """Return the addresses, or the exception that the system's resolver raised."""
        try:
            found = unpatched("socket", "getaddrinfo")(self.host, self.port, type=socket.SOCK_STREAM)
        except BaseException as error:  # noqa: BLE001  # raised by `resolve`, in the waiting coroutine
            return error
        known = (socket.AF_INET, socket.AF_INET6)
        return list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found if family in known))


class Resolver:
    """
    A pool of daemon threads for ``getaddrinfo``, which cannot be cancelled and may hang.

    Calls for the same name share one lookup, so a name whose lookup hangs occupies one thread only, and other
    names are still resolved. Nothing waits for the threads when the interpreter exits.

    Args:
        max_threads: Maximum number of lookups at a time; the others are queued.
    """

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max_threads = max_threads
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()  # those without a thread
        self.threads: int = 0

    async def resolve(self, host: str, port: int) -> list[SocketAddress]:
        """
        Return the addresses of a host, in the system's order.

        Cancelling the wait does not affect others that share the lookup.

        Raises:
            OSError: If the host has no address, or no thread could be started.
            UnicodeError: If the host is not a valid name.
        """
        answer: asyncio.Future[list[SocketAddress]] = asyncio.get_running_loop().create_future()
        with self._lock:
            lookup = self._lookups.get((host, port))
            if lookup is None:
                lookup = self._begin(host, port)
            lookup.waiters[answer] = None
        try:
            return await answer
        finally:
            with self._lock:
                lookup.waiters.pop(answer, None)

    def _begin(self, host: str, port: int) -> _Lookup:
        lookup = _Lookup(host, port)
        if self.threads < self._max_threads:
            try:
                start_native_thread(partial(self._run, lookup))
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, f"cannot start a thread to resolve {host}: {error}") from error
            self.threads += 1
        else:
            self._queue.append(lookup)
        self._lookups[host, port] = lookup
        return lookup

    def _run(self, lookup: _Lookup | None) -> None:
        while lookup is not None:
            result = lookup.run()
            with self._lock:
                del self._lookups[lookup.host, lookup.port]
                waiters, lookup.waiters = lookup.waiters, {}
            for answer in waiters:
                with contextlib.suppress(RuntimeError):  # its event loop is closed
                    answer.get_loop().call_soon_threadsafe(_answer, answer, result)
            lookup = self._next()

    def _next(self) -> _Lookup | None:
        """Return the next lookup that has waiters; without one this thread ends."""
        with self._lock:
            while self._queue:
                lookup = self._queue.popleft()
                if lookup.waiters:
                    return lookup
                del self._lookups[lookup.host, lookup.port]
            self.threads -= 1
            return None


def _answer(answer: asyncio.Future[list[SocketAddress]], result: list[SocketAddress] | BaseException) -> None:
    if answer.done():
        return  # cancelled
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def parse_numeric(host: str, port: int) -> SocketAddress | None:
    """
    Return the address of a numeric host, or ``None`` for a name.

    Raises:
        OSError: If the scope of an IPv6 address is not a network interface of this machine.
    """
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET, host)
        return socket.AF_INET, (host, port)
    address, _, scope = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return None
    return socket.AF_INET6, (address, port, 0, _parse_scope(scope, host) if scope else 0)


def _parse_scope(scope: str, host: str) -> int:
    """Return a scope id, which is written as a number or as the name of a network interface."""
    if scope.isascii() and scope.isdigit() and int(scope[:11]) < 2**32:
        return int(scope)
    try:
        return socket.if_nametoindex(scope)
    except OSError as error:
        raise OSError(errno.ENODEV, f"the scope of {host} is not a network interface of this machine") from error


_resolver = Resolver()


async def resolve(host: str, port: int) -> list[SocketAddress]:
    """Return the addresses of a host as :meth:`Resolver.resolve`; a numeric one takes no thread."""
    numeric = parse_numeric(host, port)
    return [numeric] if numeric is not None else await _resolver.resolve(host, port)


def _forget_threads() -> None:
    global _resolver  # the threads of the parent do not exist in a forked child
    _resolver = Resolver()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
