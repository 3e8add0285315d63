"""
The messages between a worker and one of its processes.

A worker sends :class:`RunJob` and receives any number of :class:`Update` and :class:`LostQuery`, then one
:class:`Completed` or :class:`Raised`. It replies only to a :class:`LostQuery`, with a :class:`LostReply`.

Each message carries the number of its job, counted by the worker. A function may fork in a way that Python does not
notice, and the copy then replies as well; the number lets the worker drop what does not belong to the current job.
"""

from __future__ import annotations

import marshal
import struct
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "Completed",
    "LostQuery",
    "LostReply",
    "Message",
    "MessageDecoder",
    "Raised",
    "RunJob",
    "Update",
    "encode_message",
]

_HEADER: Final = struct.Struct("=QQ")  # size of the serialized message, number of the job


class RunJob(NamedTuple):
    """To the process: run this job. The first fields are those of its assignment."""

    handle: bytes
    function: bytes
    unique: bytes
    workload: bytes
    server: str
    max_packet_size: int


class LostReply(NamedTuple):
    """To the process: whether the job is lost."""

    lost: bool


class Update(NamedTuple):
    """From the process: send this about the job."""

    kind: int
    data: bytes


class LostQuery(NamedTuple):
    """From the process: ask whether the job is lost."""


class Completed(NamedTuple):
    """
    From the process: the function returned.

    Attributes:
        result: Its result, or that pickled.
        is_pickled: Whether it is pickled.
    """

    result: bytes | str | None
    is_pickled: bool = False


class Raised(NamedTuple):
    """
    From the process: the function raised an exception.

    Attributes:
        pickled: The exception, or ``None`` if it does not survive pickling.
        type_name: The name of its class.
        message: Its message.
        is_failure: Whether it is a :class:`~geartrain.JobFailedError`.
        trace: Its traceback as text.
    """

    pickled: bytes | None
    type_name: str
    message: str
    is_failure: bool
    trace: str


Message: TypeAlias = RunJob | LostReply | Update | LostQuery | Completed | Raised

_TYPES: Final[tuple[type[Message], ...]] = (RunJob, LostReply, Update, LostQuery, Completed, Raised)
_TAGS: Final = {of: tag for tag, of in enumerate(_TYPES)}


def encode_message(number: int, message: Message) -> bytes:
    """Serialize a message about the job with this number."""
    # Both processes run the same Python. For tuples of bytes, text and numbers marshal takes a tenth of pickle's time.
    body = marshal.dumps((_TAGS[type(message)], *message))
    return _HEADER.pack(len(body), number) + body


class MessageDecoder:
    """Decodes messages from a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Buffer received bytes."""
        self._buffer += data

    def next_message(self) -> tuple[int, Message] | None:
        """Return the next message with the number of its job, or ``None`` until more bytes have arrived."""
        buffer = self._buffer
        if len(buffer) < _HEADER.size:
            return None
        size, number = _HEADER.unpack_from(buffer)
        end = _HEADER.size + size
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            tag, *fields = marshal.loads(view[_HEADER.size : end])  # noqa: S302  # from a process of our own
        del buffer[:end]
        return number, _TYPES[tag](*fields)
