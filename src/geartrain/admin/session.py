"""One connection of an admin client, which uses the text protocol."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextvars import Context
from typing import Any, Final, TypeVar

from geartrain.address import Address
from geartrain.connection import Connection
from geartrain.errors import ClientDisconnectedError, ConnectionLostError, RemoteProtocolError, ServerError
from geartrain.outage import Outage
from geartrain.printable import printable
from geartrain.protocol.heartbeat import Verdict
from geartrain.protocol.text import SHUTDOWN, VERSION, Command, TextProtocol, encode_command
from geartrain.protocol.text_replies import Refusal
from geartrain.session import TimedSession, open_session

__all__ = ["ADMIN_LOGGER", "AdminSession"]

ADMIN_LOGGER: Final = logging.getLogger("geartrain.admin")

T = TypeVar("T")


class AdminSession(TimedSession):
    """
    One connection and the commands that await their answers.

    It has no reference to its :class:`~geartrain.Admin`, so that an unclosed ``Admin`` can be finalized.

    Args:
        connection: The connection.
        server: The job server's address, as users read it.
        outage: Notified when the job server cannot be reached or is back.
        max_size: The maximum size of an answer in bytes.
        heartbeat: How long an idle connection may be silent before it is probed (seconds), or ``None``.
    """

    def __init__(
        self, connection: Connection, server: str, outage: Outage, max_size: int, heartbeat: float | None
    ) -> None:
        super().__init__(connection, server, ADMIN_LOGGER, heartbeat)
        self._protocol = TextProtocol(max_size)
        self._outage = outage
        self._end_is_expected = False  # closed by the admin client, or by a job server that was asked to shut down
        self._probes = 0  # unanswered commands that the heartbeat has sent
        # With the names of their commands. A cancelled one is removed, but the protocol still expects its answer.
        self._answers: dict[asyncio.Future[Any], str] = {}

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
    ) -> AdminSession:
        """
        Connect to a job server and return the session; the arguments are those of the class and of ``open_session``.

        Raises:
            OSError: If no address of the host could be reached.
            UnicodeError: If the host is not a valid name.
        """
        try:
            session = await open_session(
                address,
                lambda connection: cls(connection, str(address), outage, max_size, heartbeat),
                timeout=timeout,
                tls=tls,
                heartbeat=heartbeat,
            )
        except (OSError, UnicodeError) as error:
            outage.connect_failed(error, asyncio.get_running_loop().time())
            raise
        outage.connected()
        session.start_heartbeat()
        return session

    @property
    def unfinished(self) -> int:
        """The number of bytes of an incomplete answer."""
        return self._protocol.unfinished

    def request(self, command: Command[T], *arguments: str) -> asyncio.Future[T]:
        """Send a command and return a future of its answer, which fails if there is none. It may be cancelled."""
        answer: asyncio.Future[T] = self.loop.create_future()
        if self.is_closed:
            _fail(answer, self._lost(command.name))
            return answer

        if command is SHUTDOWN:
            self._end_is_expected = True

        def on_answer(value: T | Refusal) -> None:
            if command is SHUTDOWN and isinstance(value, Refusal):
                self._end_is_expected = False
            if answer.done():
                self.logger.debug("dropped the answer of %s to %r: the call was cancelled", self.server, command.name)
            elif isinstance(value, Refusal):
                _fail(answer, self._refused(command.name, value))
            else:
                answer.set_result(value)

        data = self._protocol.send_command(command, *arguments, on_reply=on_answer)
        if self.logger.isEnabledFor(logging.DEBUG):
            self.logger.debug("%s > '%s'", self.server, printable(encode_command(command.name, *arguments)))
        self.connection.send(data)
        self._answers[answer] = command.name
        answer.add_done_callback(self._answers.pop)
        return answer

    def disconnect(self, error: Exception) -> None:
        """Close the connection on behalf of the admin client; unanswered commands fail with ``error``."""
        self._end_is_expected = True
        self.fail(error)

    def disconnect_threadsafe(self) -> None:
        """Close the connection; called by a finalizer, which may run in any thread and at any time."""
        self._end_is_expected = True
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.connection.abort, context=Context())

    # Connection callbacks (geartrain.connection.Receiver).

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the job server."""
        self.logger.debug("%s < [%d bytes]", self.server, len(data))
        self._protocol.receive_data(data)
        if self._protocol.failure is not None:
            self.fail(RemoteProtocolError(f"{self.server} violated the text protocol: {self._protocol.failure}"))
        else:
            self._outage.end(self.loop.time())

    def writing_resumed(self) -> None:
        """Do nothing: commands are short, and each call waits for its answer."""

    def on_lost(self, error: Exception | None) -> None:
        """Log the loss of the connection, and fail the unanswered commands."""
        if self._end_is_expected:
            self.logger.info("disconnected from %s: %s", self.server, error or "closed by the job server")
        else:
            self._outage.connection_lost(error, self.loop.time())
        for answer, name in list(self._answers.items()):
            if not answer.done():
                _fail(answer, self._lost(name))

    # Heartbeat.

    def on_heartbeat(self, now: float, interval: float) -> None:
        """Probe an idle connection; close it if nothing is received after that."""
        # Each call has its own timeout, so a connection with an unanswered call is not probed.
        is_busy = self._protocol.pending_count > self._probes and not self._probes
        verdict = self.check_heartbeat(now, pending=None, received=now if is_busy else self.connection.bytes_received)
        if verdict is Verdict.LOST:
            # A NAT may have dropped it, or the job server ignores the probe; neither says that the server is down.
            self._end_is_expected = not self._answers
            self.fail_unresponsive()
        elif verdict is Verdict.SILENT:
            self._send_probe()

    def _send_probe(self) -> None:
        """Send a short command that every job server answers, if only with an error."""

        def on_answer(_: str | Refusal) -> None:
            self._probes -= 1

        self._probes += 1
        self.connection.send(self._protocol.send_command(VERSION, on_reply=on_answer))

    # Errors.

    def _lost(self, command: str) -> Exception:
        """Return the error of a call whose connection was lost."""
        if isinstance(self.error, RemoteProtocolError | ClientDisconnectedError):
            return type(self.error)(*self.error.args)
        reason = f": {self.error}" if self.error else ""
        lost = ConnectionLostError(
            f"the connection to {self.server} was lost before the answer to {command!r}{reason}", server=self.server
        )
        lost.__cause__ = self.error
        return lost

    def _refused(self, command: str, refusal: Refusal) -> ServerError:
        answer = printable(" ".join(filter(None, ("ERR", *refusal))))
        return ServerError(
            f"{self.server} answered {command!r} with '{answer}'",
            code=refusal.code,
            text=refusal.text,
            server=self.server,
        )


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # or asyncio would log it if the waiting call is cancelled in the same turn
