"""One connection on which the text protocol is spoken, and an attempt to open it that several calls share."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from geartrain.address import Address
from geartrain.connect import connect
from geartrain.connection import Connection
from geartrain.errors import ClientDisconnectedError, ConnectionLostError, RemoteProtocolError, ServerError
from geartrain.outage import Outage
from geartrain.printable import printable
from geartrain.protocol.heartbeat import CHECKS_PER_INTERVAL, Heartbeat, Verdict
from geartrain.protocol.text import SHUTDOWN, VERSION, Command, TextProtocol, encode_command
from geartrain.protocol.text_replies import Refusal

__all__ = ["AdminLink", "Attempt"]

log: Final = logging.getLogger("geartrain.admin")

T = TypeVar("T")


class AdminLink:
    """
    A connection and those who wait for its answers.

    It does not know the :class:`~geartrain.Admin` above it, so that one which was forgotten can be finalized.
    """

    def __init__(self, connection: Connection, server: str, max_size: int, outage: Outage) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._server = server
        self._protocol = TextProtocol(max_size)
        self._outage = outage
        self._end_is_expected = False  # closed from here, or by a job server that was told to shut down
        self._probes = 0  # commands of ours that are unanswered
        self._timer: asyncio.TimerHandle | None = None
        # By the words of their commands. A cancelled one is gone from here, but keeps its place in the protocol's line.
        self._waiting: dict[asyncio.Future[Any], str] = {}
        self._usable = True
        self._error: Exception | None = None

    @classmethod
    async def open(
        cls,
        address: Address,
        outage: Outage,
        *,
        timeout: float | None,
        tls: ssl.SSLContext | None,
        max_size: int,
        heartbeat: float | None,
    ) -> AdminLink:
        """
        Connect.

        Args:
            address: The job server.
            outage: Notified when the job server cannot be reached or is back.
            timeout: Seconds for the attempt, as for :func:`~geartrain.connect.connect`.
            tls: Speaks TLS, as for :func:`~geartrain.connect.connect`.
            max_size: The most bytes that one answer may have.
            heartbeat: Seconds of silence after which an idle connection is probed, or ``None``.

        Raises:
            OSError: If no address of the host could be reached.
            UnicodeError: If the host is no name that can be looked up.
        """
        try:
            connection = await connect(
                address,
                lambda c: cls(c, str(address), max_size, outage),
                timeout=timeout,
                tls=tls,
                heartbeat=heartbeat,
            )
        except (OSError, UnicodeError) as error:
            outage.connect_failed(error, asyncio.get_running_loop().time())
            raise
        link = connection.receiver
        assert isinstance(link, cls)
        outage.connected()
        if heartbeat is not None and link._usable:
            link._set_timer(Heartbeat(heartbeat, link._loop.time()), heartbeat)
        return link

    @property
    def usable(self) -> bool:
        """Whether a command can still be sent."""
        return self._usable

    @property
    def unfinished(self) -> int:
        """Bytes that came of an answer which is not whole."""
        return self._protocol.unfinished

    def ask(self, command: Command[T], *arguments: str) -> asyncio.Future[T]:
        """Send a command; the future gets its answer, or the error in place of one. It may be cancelled."""
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._usable:
            _fail(answer, self._lost(command.words))
            return answer

        if command is SHUTDOWN:
            self._end_is_expected = True

        def owner(value: T | Refusal) -> None:
            if command is SHUTDOWN and isinstance(value, Refusal):
                self._end_is_expected = False
            if answer.done():
                log.debug("dropped %s's answer to %r: nobody waits for it", self._server, command.words)
            elif isinstance(value, Refusal):
                _fail(answer, self._refused(command.words, value))
            else:
                answer.set_result(value)

        data = self._protocol.send_command(command, *arguments, owner=owner)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s > '%s'", self._server, printable(encode_command(command.words, *arguments)))
        self._connection.send(data)
        self._waiting[answer] = command.words
        answer.add_done_callback(self._waiting.pop)
        return answer

    def close(self, error: Exception) -> None:
        """Close the connection as its owner wants; calls under way end with ``error``."""
        self._end_is_expected = True
        self.drop(error)

    def drop(self, error: Exception) -> None:
        """Close the connection of a job server that has failed; ``error`` is why."""
        self._usable = False
        self._error = self._error or error
        self._connection.abort(error)

    def drop_from_any_thread(self) -> None:
        """Close the connection, from a finalizer, which may run anywhere and any time."""
        self._end_is_expected = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._connection.abort, context=Context())

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        await self._connection.wait_closed()

    # What the connection calls.

    def data_received(self, data: bytes) -> None:  # noqa: D102
        log.debug("%s < [%d bytes]", self._server, len(data))
        self._protocol.receive_data(data)
        if self._protocol.failure is not None:
            self.drop(RemoteProtocolError(f"{self._server} broke the text protocol: {self._protocol.failure}"))
        else:
            self._outage.end(self._loop.time())

    def writing_resumed(self) -> None:
        """Do nothing: commands are short, and whoever sends one waits for its answer."""

    def connection_lost(self, error: Exception | None) -> None:  # noqa: D102
        self._usable = False
        self._error = self._error or error
        if self._timer is not None:
            self._timer.cancel()
        if self._end_is_expected:
            log.info("disconnected from %s: %s", self._server, error or "closed by the job server")
        else:
            self._outage.connection_lost(error, self._loop.time())
        for answer, words in list(self._waiting.items()):
            if not answer.done():
                _fail(answer, self._lost(words))

    def _set_timer(self, heartbeat: Heartbeat, interval: float) -> None:
        self._timer = self._loop.call_later(
            interval / CHECKS_PER_INTERVAL, self._beat, heartbeat, interval, context=Context()
        )

    def _beat(self, heartbeat: Heartbeat, interval: float) -> None:
        """Probe an idle connection; close it if nothing is received after that."""
        now, connection = self._loop.time(), self._connection
        # The timeout of a call limits how long its answer takes, so a connection that owes one is not probed.
        is_busy = self._protocol.owed > self._probes and not self._probes
        verdict = heartbeat.check(
            now,
            pending=None,
            received=now if is_busy else connection.bytes_received,
            bytes_queued=connection.bytes_queued,
            bytes_written=connection.bytes_taken,
        )
        if verdict is Verdict.LOST:
            # A NAT may have forgotten it, or the job server ignores the probe; neither says that the server is down.
            self._end_is_expected = not self._waiting
            self.drop(TimeoutError(f"{self._server} did not reply within {interval:g} s"))
            return
        if verdict is Verdict.SILENT:
            self._probe()
        self._set_timer(heartbeat, interval)

    def _probe(self) -> None:
        """Send a short command that every job server answers, be it by an error."""

        def owner(_: str | Refusal) -> None:
            self._probes -= 1

        self._probes += 1
        self._connection.send(self._protocol.send_command(VERSION, owner=owner))

    def _lost(self, words: str) -> Exception:
        """Return what a call ends with when the connection has ended."""
        if isinstance(self._error, RemoteProtocolError | ClientDisconnectedError):
            return type(self._error)(*self._error.args)
        why = f": {self._error}" if self._error else ""
        lost = ConnectionLostError(
            f"the connection to {self._server} was lost before the answer to {words!r}{why}", server=self._server
        )
        lost.__cause__ = self._error
        return lost

    def _refused(self, words: str, refusal: Refusal) -> ServerError:
        said = printable(" ".join(filter(None, ("ERR", *refusal))))
        return ServerError(
            f"{self._server} answered {words!r} with '{said}'",
            code=refusal.code,
            text=refusal.text,
            server=self._server,
        )


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # asyncio is not to complain if whoever waits for it is cancelled in this very turn


class Attempt:
    """
    One attempt to connect. All calls that need the connection wait for it; it is given up when the last of them is.

    Args:
        connecting: Returns the link, or the error in place of one.
    """

    def __init__(self, connecting: Coroutine[Any, Any, AdminLink | Exception]) -> None:
        self._task = asyncio.get_running_loop().create_task(connecting, context=Context())
        self._waiting = 0
        self.over: bool = False  # nobody may join any more

    async def wait(self) -> AdminLink | Exception | None:
        """Return what came of it, ``None`` if it was cancelled."""
        self._waiting += 1
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            if self._waiting == 1:
                await self.cancel()
            raise
        finally:
            self._waiting -= 1
        self.over = True
        return None if self._task.cancelled() else self._task.result()

    async def cancel(self) -> None:
        """Give it up, and wait until nothing of it is left."""
        self.over = True
        self._task.cancel()
        await asyncio.wait([self._task])
