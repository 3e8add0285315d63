"""A TCP connection with write coalescing; the only module that reads from sockets and writes to them."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Final, Protocol, cast
from weakref import WeakKeyDictionary

from geartrain.fork_safety import protect_on_fork
from geartrain.tls import explain_tls
from geartrain.unpatched import create_native_lock

if TYPE_CHECKING:
    from threading import RLock

__all__ = ["Connection", "Receiver", "WriteObserver"]

# Minimum size in bytes for a separate write. Shorter data is joined first: copying is cheaper than a system call.
_ENOUGH = 64 * 1024
_WRITE_BUFFER = 1024 * 1024  # bytes that may wait in the transport before `writable` turns false
_READ_BUFFER = 256 * 1024  # bytes; the maximum size of a read
_THREAD_READ_BUFFER = 64 * 1024  # the same for threads, for each connection

# What is received is copied before anything else is read, so all connections of a loop share one buffer.
_read_buffers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]] = WeakKeyDictionary()


class Receiver(Protocol):
    """The callbacks of a :class:`Connection`, called in the order of events."""

    def data_received(self, data: bytes) -> None:
        """Called with received bytes."""

    def writing_resumed(self) -> None:
        """Called when ``writable`` is true again."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called last, when the connection is lost because of ``error``, or closed (``None``)."""


class WriteObserver(Protocol):
    """Notified of writes, under ``Connection.lock``. Between the two calls the peer may have part of a packet."""

    def on_write(self, before: int, after: int) -> None:
        """Called before bytes are written, with the numbers of all bytes before and after them."""

    def on_written(self) -> None:
        """Called when the kernel has accepted everything that was written."""


class Connection(asyncio.BufferedProtocol):
    """
    A connection that writes once per turn of the event loop, however often :meth:`send` is called.

    It writes earlier only when 64 KiB are queued. One system call per turn halves the cost of a job here and quarters
    it in the job server.

    It reads into a buffer that exists already. For an ``asyncio.Protocol`` the event loop allocates 256 KiB for each
    read, for which malloc usually asks the kernel: three system calls and page faults, up to 40 us.

    Other threads may send as well: under ``lock``, with a :meth:`flush` at the end. Unless data waits in the transport,
    the thread writes to the socket itself, which saves waking the event loop. They read after :meth:`read_in_threads`.

    A connection outlives its callers, so whatever it registers with the event loop runs in an empty ``contextvars``
    context. Otherwise it would keep the context of a caller alive.

    Attributes:
        lock: Held while data is queued or written. Whoever shares the connection among threads may replace it.
        receiver: Receives the callbacks.
        before_flush: Called before a write, to send what is cheaper to encode in one go; or ``None``.
        write_observer: Notified of writes, or ``None``.
        closed: Done when the socket is closed.
        writable: Whether the write buffer is below its limit. Sending is possible in any case.
        is_broken: A thread has found that the connection is lost; the event loop notices next.
        bytes_received: The number of bytes received so far.
        bytes_sent: The number of bytes passed to the transport so far.
    """

    def __init__(self, receiver_factory: Callable[[Connection], Receiver]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.lock: RLock = create_native_lock()
        self._transport: asyncio.Transport | None = None
        self._read_buffer = _get_read_buffer(self._loop)
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0  # in bytes
        self._flush_is_due = False  # `_end_turn` is scheduled
        self._thread_buffer: memoryview | None = None
        self._descriptor: int | None = None  # of the socket, if other threads may write to it
        # The transport has unsent data. Only the event loop can tell: from Python 3.12 on, the transport takes data out
        # of its buffer and puts the unsent rest back, so another thread may find the buffer empty in between.
        self._transport_is_behind = False
        self.before_flush: Callable[[], None] | None = None
        self.write_observer: WriteObserver | None = None
        self.receiver: Receiver = receiver_factory(self)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._error: Exception | None = None
        self.writable: bool = True
        self.is_broken: bool = False
        self.bytes_received: int = 0
        self.bytes_sent: int = 0

    def send(self, data: bytes) -> None:
        """Queue bytes, to be written by the end of this turn of the loop. Once closed, drop them."""
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        if self._outgoing_size >= _ENOUGH:
            self.flush()
        elif not self._flush_is_due:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Schedule a flush for the end of this turn. Other threads flush themselves."""
        if not self._flush_is_due and get_ident() == self._thread:
            self._flush_is_due = True
            self._loop.call_soon(self._end_turn, context=Context())

    def flush(self) -> None:
        """Write what is queued now."""
        if get_ident() == self._thread:
            Context().run(self._flush)  # the transport may register a writer with the event loop
        elif self._outgoing:
            self._flush_from_thread()

    def _flush(self) -> None:
        with self.lock:
            self._flush_locked()

    def _flush_locked(self) -> None:
        if self.before_flush is not None:
            self.before_flush()
        outgoing, transport = self._outgoing, self._transport
        if not outgoing or (transport is None and not self.closed.done()):
            return  # keep it until there is a transport
        if transport is None or transport.is_closing():
            self._drop_outgoing()
            return
        self._outgoing = []
        self._outgoing_size = 0
        if self.write_observer is None:
            self._write_all(outgoing)
        else:
            self.write_observer.on_write(self.bytes_sent, self.bytes_sent + sum(map(len, outgoing)))
            self._write_all(outgoing)
            if not self._transport_is_behind:
                self.write_observer.on_written()

    def _write_all(self, outgoing: list[bytes]) -> None:
        # Nearly always true, and grouping costs as much as joining.
        if max(map(len, outgoing)) < _ENOUGH:
            self._write(b"".join(outgoing))
            return
        for is_small, pieces in itertools.groupby(outgoing, lambda data: len(data) < _ENOUGH):
            for data in (b"".join(pieces),) if is_small else pieces:
                self._write(data)

    def _flush_from_thread(self) -> None:
        if self._descriptor is not None and not self._transport_is_behind:
            data = b"".join(self._outgoing)
            sent = 0
            if self.write_observer is not None:
                self.write_observer.on_write(self.bytes_sent, self.bytes_sent + len(data))
            with suppress(OSError):  # the kernel's buffer is full, or the connection is lost; the event loop finds out
                sent = os.write(self._descriptor, data)
            self.bytes_sent += sent
            self._outgoing = [data[sent:]] if sent < len(data) else []
            self._outgoing_size = len(data) - sent
            if self.write_observer is not None and not self._outgoing:
                self.write_observer.on_written()
        if self._outgoing and not self._flush_is_due:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._end_turn, context=Context())
                self._flush_is_due = True

    def _end_turn(self) -> None:
        with self.lock:  # a thread that finds a flush due relies on it
            try:
                self._flush_locked()
            finally:  # not earlier: what `before_flush` sends needs no other flush
                self._flush_is_due = False

    def read_in_threads(self) -> int | None:
        """
        Leave reading to other threads, which call :meth:`read`.

        Returns:
            The descriptor to wait for, valid until the connection is lost, or ``None`` if only the event loop can read.
        """
        if self._descriptor is not None:
            self.pause_reading()
            self._thread_buffer = memoryview(bytearray(_THREAD_READ_BUFFER))
        return self._descriptor

    def read(self) -> bytes:
        """Read what has arrived, if anything, without blocking. The caller must hold ``lock``."""
        if self._descriptor is None or self._thread_buffer is None:
            return b""
        error = None
        try:
            size = os.readv(self._descriptor, (self._thread_buffer,))
        except BlockingIOError:
            return b""
        except OSError as failure:
            size, error = 0, failure
        if not size:
            self._descriptor = None
            self.is_broken = True
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self.abort, error, context=Context())
            return b""
        self.bytes_received += size
        return bytes(self._thread_buffer[:size])

    @property
    def unsent(self) -> int:
        """The number of bytes that the kernel has not accepted yet."""
        return self._outgoing_size + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def bytes_queued(self) -> int:
        """The number of bytes queued so far, written or not."""
        return self.bytes_sent + self._outgoing_size

    @property
    def bytes_taken(self) -> int:
        """The number of these bytes that the kernel has accepted."""
        return self.bytes_queued - self.unsent

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the peer."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return (name[0], name[1]) if name else ("", 0)

    @property
    def socket(self) -> socket.socket | None:
        """The underlying socket, for inspection, or ``None`` if there is none."""
        return self._transport.get_extra_info("socket") if self._transport else None

    def pause_reading(self) -> None:
        """Stop reading from the socket, so that the peer is slowed down."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            Context().run(self._transport.resume_reading)

    def close(self) -> None:
        """Write what is queued, then close."""
        if self._transport is not None:
            self.flush()
            with self.lock:
                self._descriptor = None
            Context().run(self._transport.close)

    def abort(self, error: Exception | None = None) -> None:
        """Close now and drop what is queued; :meth:`Receiver.connection_lost` gets ``error``."""
        if self._error is None:
            self._error = error
        with self.lock:
            self._descriptor = None
            self._drop_outgoing()
        if self._transport is not None:
            Context().run(self._transport.abort)

    async def wait_closed(self) -> None:
        """Wait until the socket is closed. It is safe to cancel the wait."""
        await asyncio.shield(self.closed)

    # Callbacks of asyncio.BufferedProtocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses
        self._transport = transport
        protect_on_fork(self, Connection._descriptors)
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # uvloop delays writes, and get_write_buffer_size() does not count them; TLS has a state of its own.
            if isinstance(transport, asyncio.Transport) and os.name == "posix" and not _is_tls(transport):
                self._descriptor = sock.fileno()
        if self._outgoing:  # queued before there was a transport
            self.flush_soon()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        self.bytes_received += nbytes
        self.receiver.data_received(bytes(self._read_buffer[:nbytes]))

    def eof_received(self) -> None:  # noqa: D102
        # A job server that has hung up answers nothing more, so there is no point in writing the rest. Without this,
        # the transport would write it first, and report the loss only then.
        self.abort()

    def pause_writing(self) -> None:  # noqa: D102
        self.writable = False

    def resume_writing(self) -> None:  # noqa: D102
        self.writable = True
        self.receiver.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        with self.lock:  # the socket is closed after this
            self._transport = self._descriptor = None
            self._drop_outgoing()
        if not self.closed.done():
            self.closed.set_result(None)
        error = self._error or exc
        if isinstance(error, ssl.SSLError):  # a server may refuse a client's certificate after the handshake
            explain_tls(error, "the peer")
        self.receiver.connection_lost(error)

    def _descriptors(self) -> tuple[int, ...]:
        sock = self.socket
        if sock is None or self._transport is None or self._transport.is_closing():
            return ()  # uvloop still returns the number of a descriptor that it has closed
        return (sock.fileno(),)

    def _drop_outgoing(self) -> None:
        self._outgoing.clear()
        self._outgoing_size = 0
        self.before_flush = None

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self.bytes_sent += len(data)
            self._transport.write(data)
            self._transport_is_behind = self._transport.get_write_buffer_size() > 0


def _is_tls(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _get_read_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Return the buffer that all connections of a loop share."""
    buffer = _read_buffers.get(loop)
    if buffer is None:
        buffer = _read_buffers[loop] = memoryview(bytearray(_READ_BUFFER))
    return buffer
