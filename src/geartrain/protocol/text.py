r"""
The client side of the text protocol, which inspects and configures job servers.

A command is a line of at most five words. Its reply is one line (``OK...``, ``ERR ...``) or a listing: lines up to one
with only a dot. Replies arrive in the order of the commands, and nothing in them names the command. So the pending
replies form a queue, and each is read by the reader of its command.

A function, a unique or a client id with newlines can look like the end of a listing, so that the rest would be taken
for the reply to the next command. Therefore a binary GET_STATUS follows each command whose reply is a listing: its
reply begins with a NUL, which no line contains, and marks the end. Job servers accept text and packets on one
connection and reply in order. Another GET_STATUS precedes the first listing of a connection: if text arrives in place
of its reply, the job server does not support marks, and the first line that can be the end is the end.

Source: gearmand ``libgearman-server/text.cc``; where job servers differ, their behaviour (``docs/wire-notes.md``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.packets import HEADER, RESPONSE, PacketType, encode
from geartrain.protocol.text_replies import (
    Counted,
    FunctionStatus,
    ListedJob,
    OneLine,
    PriorityStatus,
    Reader,
    Refusal,
    Rows,
    Uniques,
    Workers,
    is_end,
    refusal,
)

__all__ = [
    "CANCEL_JOB",
    "CREATE_FUNCTION",
    "DROP_FUNCTION",
    "GETPID",
    "MAXQUEUE",
    "MAX_COMMAND",
    "PRIORITY_STATUS",
    "ROW_COST",
    "SHOW_JOBS",
    "SHOW_UNIQUE_JOBS",
    "SHUTDOWN",
    "STATUS",
    "VERBOSE",
    "VERSION",
    "WORKERS",
    "Command",
    "TextProtocol",
    "encode_command",
]

MAX_COMMAND: Final = 8191  # bytes before the LF; gearmand closes the connection on a longer line
ROW_COST: Final = 64  # bytes added for each line, so that endless empty lines exceed a limit as well

_MARK_HANDLE: Final = b"geartrain:end"  # belongs to no job
_MARK: Final = encode(PacketType.GET_STATUS, _MARK_HANDLE)
_MARK_REPLY: Final = HEADER.pack(RESPONSE, PacketType.STATUS_RES, 0)[:-4]  # the size, which follows, varies
_MAX_MARK_REPLY: Final = 128  # bytes of the body

T = TypeVar("T")


class Command(NamedTuple, Generic[T]):
    """
    One command: its name, and a factory for the reader of its reply.

    It has at most five words, including its arguments: gearmand closes the connection on a sixth.
    """

    name: str
    reader: Callable[[], Reader[T]]


def _done(name: str, pattern: bytes = rb"(OK)\b.*") -> Command[None]:
    return Command(name, lambda: OneLine(pattern, lambda _: None))


STATUS: Final = Command("status", lambda: Counted(3, FunctionStatus))
PRIORITY_STATUS: Final = Command("prioritystatus", lambda: Counted(4, PriorityStatus))
WORKERS: Final = Command("workers", Workers)
SHOW_JOBS: Final = Command("show jobs", lambda: Counted(3, ListedJob.of))
SHOW_UNIQUE_JOBS: Final = Command("show unique jobs", Uniques)
VERSION: Final = Command("version", lambda: OneLine(rb"(?:OK |(?=v?\d))(.+)", str))  # Perl's server leaves out the OK
GETPID: Final = Command("getpid", lambda: OneLine(rb"OK (\d{1,20})", int))
VERBOSE: Final = Command("verbose", lambda: OneLine(rb"OK (.+)", str))
MAXQUEUE: Final = _done("maxqueue")
CREATE_FUNCTION: Final = _done("create function")
DROP_FUNCTION: Final = _done("drop function")
CANCEL_JOB: Final = _done("cancel job")
SHUTDOWN: Final = _done("shutdown", rb"(OK|BYE)\b.*")  # rustygeard says BYE


def encode_command(name: str, *arguments: str) -> bytes:
    """
    Serialize a command as one line.

    It ends with CR LF: after ``create function`` with LF alone, gearmand cuts off the last byte of the name.

    Raises:
        LocalProtocolError: If an argument is empty or contains a space, a newline or a NUL, which separate words and
            lines and cannot be quoted; or if the line is too long.
    """
    parts = [name.encode()]
    for argument in arguments:
        part = argument.encode("utf-8", "surrogateescape")
        if not part or any(byte in part for byte in b" \n\0"):
            raise LocalProtocolError(
                f"a text command cannot contain {argument!r}: it is empty or contains a space, newline or NUL"
            )
        parts.append(part)
    line = b" ".join(parts) + b"\r"
    if len(line) > MAX_COMMAND:
        raise LocalProtocolError(f"a command must have at most {MAX_COMMAND} bytes, got {name!r} with {len(line)}")
    return line + b"\n"


class _PendingReply(NamedTuple):
    """The reply to a command that was sent."""

    on_reply: Callable[[Any], None]
    reader: Reader[Any]


class TextProtocol:
    """
    The commands sent on one connection, and their replies.

    It never raises on received bytes: the error is kept in ``failure``, and everything after it is ignored.

    Args:
        max_size: The maximum size of a reply in bytes, with :data:`ROW_COST` added for each line.
    """

    def __init__(self, max_size: int = DEFAULT_MAX_SIZE) -> None:
        self._max_size = max_size
        self._pending: deque[_PendingReply] = deque()
        self._line = bytearray()  # the beginning of a line whose LF has not arrived
        self._size = 0  # of the lines received of the oldest pending reply
        self._mark = bytearray()  # the beginning of the reply to a mark
        self._mark_size = HEADER.size  # of the reply, as far as it is known
        self._mark_sent = False
        self._marks_answered: bool | None = None  # unknown before the first listing
        # The last line of a listing that a mark follows: a row, the end, or a refusal, depending on what comes next.
        self._last_line: bytes | None = None
        self.failure: RemoteProtocolError | None = None

    @property
    def pending_count(self) -> int:
        """The number of pending replies."""
        return len(self._pending)

    @property
    def unfinished(self) -> int:
        """The size of an incomplete reply so far in bytes, with :data:`ROW_COST` added for each line."""
        return self._size + len(self._line)

    def send_command(self, command: Command[T], *arguments: str, on_reply: Callable[[T | Refusal], None]) -> bytes:
        """
        Return the bytes to send; ``on_reply`` is called with the reply when it has arrived.

        Raises:
            LocalProtocolError: As :func:`encode_command`; then no reply is pending.
        """
        data = encode_command(command.name, *arguments)
        reader = command.reader()
        self._pending.append(_PendingReply(on_reply, reader))
        if isinstance(reader, Rows) and self._marks_answered is not False:
            data = data + _MARK if self._mark_sent else _MARK + data + _MARK
            self._mark_sent = True
        return data

    def receive_data(self, data: bytes) -> None:
        """Receive bytes in any chunking, and call ``on_reply`` for each reply that they complete, in order."""
        if self.failure is not None:
            return
        try:
            start = 0
            while start < len(data):
                begins_with_nul = not self._line and data[start] == 0
                receive = self._receive_mark if self._mark or begins_with_nul else self._receive_text
                start = receive(data, start)
        except RemoteProtocolError as error:
            self.failure = error
            self._line.clear()
            self._mark.clear()

    def _receive_text(self, data: bytes, start: int) -> int:
        """Receive a line, or the beginning of one; return where it ends in the data."""
        end = data.find(b"\n", start)
        piece = data[start:] if end < 0 else data[start:end]
        if b"\0" in piece:
            raise _unexpected_nul(piece)
        if end < 0:
            self._line += piece
            self._check(self._line)
            return len(data)
        if self._line:
            piece = bytes(self._line) + piece
            self._line.clear()
        self._check(piece)
        self._receive_line(piece)
        return end + 1

    def _receive_line(self, line: bytes) -> None:
        on_reply, reader = self._pending[0]
        first = not self._size
        self._size += len(line) + ROW_COST
        if isinstance(reader, Rows):
            if self._marks_answered is None:
                self._marks_answered = False
            if self._marks_answered:
                if self._last_line is not None:
                    reader.add(self._last_line)
                self._last_line = line
                return
        refused = reader.refusal.fullmatch(line) if first else None
        if refused is not None or reader.take(line):
            self._end_reply(on_reply, reader.value if refused is None else refusal(refused))

    def _receive_mark(self, data: bytes, start: int) -> int:
        """Receive the reply to a mark, or part of it; return where it ends in the data."""
        mark = self._mark
        end = start + self._mark_size - len(mark)
        mark += data[start:end]
        if not self._mark_sent or not _MARK_REPLY.startswith(bytes(mark[: len(_MARK_REPLY)])):
            raise _unexpected_nul(mark)
        if len(mark) == HEADER.size:
            _, _, size = HEADER.unpack(mark)
            if not 0 < size <= _MAX_MARK_REPLY:
                raise _unexpected_nul(mark)
            self._mark_size += size
        elif len(mark) == self._mark_size:
            handle, _, _ = bytes(mark[HEADER.size :]).partition(b"\0")
            if handle != _MARK_HANDLE:
                raise RemoteProtocolError(f"expected the status of {_MARK_HANDLE!r}, got that of {handle!r}")
            mark.clear()
            self._mark_size = HEADER.size
            self._mark_received()
        return min(end, len(data))

    def _mark_received(self) -> None:
        """Handle the reply to a mark: the one before the first listing, or the one after each."""
        pending = self._pending[0] if self._pending else None
        if pending is None or not isinstance(pending.reader, Rows) or self._marks_answered is False:
            raise RemoteProtocolError("unexpected STATUS_RES")
        if self._marks_answered is None:
            self._marks_answered = True
            return
        line, self._last_line = self._last_line, None
        if line is not None and is_end(line):
            pending.reader.finish()
            self._end_reply(pending.on_reply, pending.reader.value)
            return
        only = line is not None and self._size == len(line) + ROW_COST
        refused = pending.reader.refusal.fullmatch(line) if line is not None and only else None
        if refused is None:
            raise RemoteProtocolError(f"a listing must end with a dot, got {(line or b'')[:100]!r}")
        self._end_reply(pending.on_reply, refusal(refused))

    def _end_reply(self, on_reply: Callable[[Any], None], value: object) -> None:
        self._pending.popleft()
        self._size = 0
        on_reply(value)

    def _check(self, line: bytes | bytearray) -> None:
        """Check that a line, or the beginning of one, is expected and not too long."""
        if not self._pending:
            raise RemoteProtocolError(f"no command is pending, got {bytes(line[:100])!r}")
        if self._size + len(line) > self._max_size:
            raise RemoteProtocolError(
                f"an answer is longer than {self._max_size} bytes, {ROW_COST} added for each line"
            )


def _unexpected_nul(data: bytes | bytearray) -> RemoteProtocolError:
    return RemoteProtocolError(f"a line of text must not contain a NUL, got {bytes(data[:100])!r}")
