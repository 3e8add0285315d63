"""Requests with a single direct reply: a status, an echo."""

from __future__ import annotations

import asyncio
from typing import Final

from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    NoServersError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.printable import printable
from geartrain.protocol.packets import PacketType

__all__ = ["Query"]

_REPLIES: Final = {
    PacketType.ECHO_REQ: PacketType.ECHO_RES,
    PacketType.GET_STATUS: PacketType.STATUS_RES,
    PacketType.GET_STATUS_UNIQUE: PacketType.STATUS_RES_UNIQUE,
}


class Query(asyncio.Future[list[bytes]]):
    """
    A future of the reply to one request: the arguments of the packet.

    Args:
        server: The job server's address.
        kind: The packet type of the request.
        argument: Its argument, with which the reply begins.
    """

    def __init__(self, server: str, kind: PacketType, argument: bytes) -> None:
        super().__init__()
        self.kind = kind
        self.argument = argument
        self.expects: PacketType = _REPLIES[kind]
        self._server = server
        self._asked_at = self.get_loop().time()

    def on_reply(self, arguments: list[bytes]) -> None:
        """Handle the reply."""
        if not self.done():
            self.set_result(arguments)

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Handle ERROR in place of the reply."""
        message = f"{self._server} answered {self.kind.name} by ERROR {printable(code)} {printable(text)}".rstrip()
        words = code.decode("utf-8", "backslashreplace"), text.decode("utf-8", "backslashreplace")
        self.fail(ServerError(message, code=words[0], text=words[1], server=self._server))

    def on_ignored(self) -> None:
        """Handle a job server that does not reply to this kind of query, as far as its other packets show."""
        seconds = self.get_loop().time() - self._asked_at
        message = f"{self._server} did not answer {self.kind.name} in {seconds:.3g} s, but sent other packets"
        self.fail(ServerTimeoutError(message, server=self._server, seconds=seconds))

    def on_unreachable(self, error: Exception) -> None:
        """Handle a job server that cannot be reached."""
        message = f"{self._server} could not be reached to ask {self.kind.name}: {error}"
        self.fail(NoServersError(message, errors={self._server: error}))

    def on_connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        """Handle the loss of the connection."""
        reason = error or "closed by the job server"
        message = f"the connection to {self._server} was lost ({reason}) before it answered {self.kind.name}"
        self.fail(ConnectionLostError(message, server=self._server))

    def on_disconnected(self, handle: bytes | None = None) -> None:
        """End because the client was disconnected."""
        self.fail(
            ClientDisconnectedError(f"the client was disconnected before {self._server} answered {self.kind.name}")
        )

    def fail(self, error: Exception) -> None:
        """End without a reply."""
        if not self.done():
            self.set_exception(error)
