"""Questions to one job server that have one answer: a status, an echo."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    NoServersError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.printable import printable
from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from geartrain.client.link import Link

__all__ = ["Reply", "ask"]

_ANSWERS: Final = {
    PacketType.ECHO_REQ: PacketType.ECHO_RES,
    PacketType.GET_STATUS: PacketType.STATUS_RES,
    PacketType.GET_STATUS_UNIQUE: PacketType.STATUS_RES_UNIQUE,
}


class Reply(asyncio.Future[list[bytes]]):
    """Waits for the answer to one question: the arguments of the packet that answers it."""

    def __init__(self, server: str, kind: PacketType, asked: bytes) -> None:
        super().__init__()
        self.kind = kind
        self.asked = asked
        self.expects: PacketType = _ANSWERS[kind]
        self._server = server
        self._asked_at = self.get_loop().time()

    def _answered(self, arguments: list[bytes]) -> None:
        if not self.done():
            self.set_result(arguments)

    def _refused(self, code: bytes, text: bytes) -> None:
        message = f"{self._server} answered {self.kind.name} by ERROR {printable(code)} {printable(text)}".rstrip()
        words = code.decode("utf-8", "backslashreplace"), text.decode("utf-8", "backslashreplace")
        self.fail(ServerError(message, code=words[0], text=words[1], server=self._server))

    def _ignored(self) -> None:
        """Called when the job server does not answer such a question, as far as what it sends shows."""
        seconds = self.get_loop().time() - self._asked_at
        message = f"{self._server} did not answer {self.kind.name} in {seconds:.3g} s, but sent other packets"
        self.fail(ServerTimeoutError(message, server=self._server, seconds=seconds))

    def _unreachable(self, error: Exception) -> None:
        message = f"{self._server} could not be reached to ask {self.kind.name}: {error}"
        self.fail(NoServersError(message, errors={self._server: error}))

    def _connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        reason = error or "closed by the job server"
        message = f"the connection to {self._server} was lost ({reason}) before it answered {self.kind.name}"
        self.fail(ConnectionLostError(message, server=self._server))

    def _disconnected(self, handle: bytes | None = None) -> None:
        self.fail(
            ClientDisconnectedError(f"the client was disconnected before {self._server} answered {self.kind.name}")
        )

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        if not self.done():
            self.set_exception(error)


async def ask(link: Link, kind: PacketType, asked: bytes) -> list[bytes]:
    """
    Ask a question, and return the arguments of the answer. Cancelling the wait harms nothing.

    Raises:
        NoServersError: The job server could not be reached.
        ConnectionLostError: The connection was lost before the answer.
        ServerError: The job server answered ERROR.
        ServerTimeoutError: The job server ignores such a question.
        ClientDisconnectedError: The client was disconnected before the answer.
    """
    reply = Reply(link.name, kind, asked)
    link.ask(reply)
    return await reply
