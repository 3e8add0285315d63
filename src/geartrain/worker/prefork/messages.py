"""The messages between a worker and a process that has connections of its own."""

from __future__ import annotations

import marshal
import struct
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "Connected",
    "Disconnected",
    "Finished",
    "Logged",
    "Message",
    "MessageDecoder",
    "Replied",
    "Stop",
    "encode_message",
]

_HEADER: Final = struct.Struct("=Q")  # size of the serialized message


class Connected(NamedTuple):
    """From the process: it has a new connection, whose socket comes with this message."""

    server: int
    connection: int


class Replied(NamedTuple):
    """From the process: the job server has sent something on this connection."""

    connection: int


class Disconnected(NamedTuple):
    """From the process: this connection is lost or closed."""

    connection: int


class Logged(NamedTuple):
    """
    From the process: a log record.

    Attributes:
        attributes: Those of the record that are text or numbers.
        raised: The fields of a :class:`~geartrain.worker.processes.messages.Raised`, or ``None``.
    """

    attributes: dict[str, Any]
    raised: tuple[Any, ...] | None


class Finished(NamedTuple):
    """From the process: it has stopped, and all results have arrived."""


class Stop(NamedTuple):
    """To the process: take no more jobs, and end when the running one has ended."""


Message: TypeAlias = Connected | Replied | Disconnected | Logged | Finished | Stop

_TYPES: Final[tuple[type[Message], ...]] = (Connected, Replied, Disconnected, Logged, Finished, Stop)
_TAGS: Final = {of: tag for tag, of in enumerate(_TYPES)}


def encode_message(message: Message) -> bytes:
    """Serialize a message."""
    body = marshal.dumps((_TAGS[type(message)], *message))  # both processes run the same Python
    return _HEADER.pack(len(body)) + body


class MessageDecoder:
    """Decodes messages from a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        start = 0
        while len(buffer) - start >= _HEADER.size:
            (size,) = _HEADER.unpack_from(buffer, start)
            end = start + _HEADER.size + size
            if len(buffer) < end:
                break
            tag, *fields = marshal.loads(buffer[start + _HEADER.size : end])  # noqa: S302  # from our own process
            messages.append(_TYPES[tag](*fields))
            start = end
        del buffer[:start]
        return messages
