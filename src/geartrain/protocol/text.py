r"""
The asking side of the text protocol, by which job servers are looked at and set.

A command is a line of at most five words; its answer is one line (``OK...``, ``ERR ...``), or lines up to one that
holds only a dot. Answers come in the order of the commands, and nothing in them says what they answer: what is owed
is kept in a line, and each answer is read by the reader of its command.

Source: gearmand ``libgearman-server/text.cc``; where job servers differ, what they do (``docs/wire-notes.md``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.protocol.decoder import DEFAULT_MAX_SIZE
from geartrain.protocol.text_answers import (
    Counted,
    FunctionStatus,
    ListedJob,
    OneLine,
    PriorityStatus,
    Reader,
    Refusal,
    Uniques,
    Workers,
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
ROW_COST: Final = 64  # bytes that a line counts beside its own: endless empty lines are endless too

T = TypeVar("T")


class Command(NamedTuple, Generic[T]):
    """
    One command: the words that it begins with, and what makes the reader of an answer to it.

    With its arguments it has at most five words: gearmand closes the connection on a sixth.
    """

    words: str
    reader: Callable[[], Reader[T]]


def _done(words: str, pattern: bytes = rb"(OK)\b.*") -> Command[None]:
    return Command(words, lambda: OneLine(pattern, lambda _: None))


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


def encode_command(words: str, *arguments: str) -> bytes:
    """
    Write a command as one line.

    It ends in CR LF: of ``create function`` with LF alone, gearmand cuts off the last byte of the name.

    Raises:
        LocalProtocolError: If an argument is empty or holds a space, a newline or a NUL, which part words and lines
            and cannot be quoted; or if the line is too long.
    """
    parts = [words.encode()]
    for argument in arguments:
        part = argument.encode("utf-8", "surrogateescape")
        if not part or any(byte in part for byte in b" \n\0"):
            raise LocalProtocolError(
                f"the text protocol cannot address {argument!r}: it is empty or holds a space, newline or NUL"
            )
        parts.append(part)
    line = b" ".join(parts) + b"\r"
    if len(line) > MAX_COMMAND:
        raise LocalProtocolError(f"a command has at most {MAX_COMMAND} bytes; {words!r} would have {len(line)}")
    return line + b"\n"


class TextProtocol:
    """
    The commands sent on one connection, and the answers that are owed for them.

    It never raises on what is received: the error is kept in ``failure``, and all that follows is ignored.

    Args:
        max_size: The most bytes that one answer may have, each line counting :data:`ROW_COST` more.
    """

    def __init__(self, max_size: int = DEFAULT_MAX_SIZE) -> None:
        self._max_size = max_size
        self._owed: deque[tuple[Callable[[Any], None], Reader[Any]]] = deque()
        self._line = bytearray()  # the beginning of a line whose LF has not come
        self._size = 0  # of the lines that came of the oldest answer owed
        self.failure: RemoteProtocolError | None = None

    @property
    def owed(self) -> int:
        """How many answers are awaited."""
        return len(self._owed)

    @property
    def unfinished(self) -> int:
        """Bytes that came of an answer which is not whole, each line counting :data:`ROW_COST` more."""
        return self._size + len(self._line)

    def send_command(self, command: Command[T], *arguments: str, owner: Callable[[T | Refusal], None]) -> bytes:
        """
        Return the bytes to send; ``owner`` is called with the answer when that is here.

        Raises:
            LocalProtocolError: As :func:`encode_command`; nothing is owed then.
        """
        data = encode_command(command.words, *arguments)
        self._owed.append((owner, command.reader()))
        return data

    def receive_data(self, data: bytes) -> None:
        """Take bytes in any chunking, and call the owners of the answers that they complete, in order."""
        if self.failure is not None:
            return
        try:
            self._receive_lines(data)
        except RemoteProtocolError as error:
            self.failure = error
            self._line.clear()

    def _receive_lines(self, data: bytes) -> None:
        if b"\0" in data:
            raise RemoteProtocolError(f"text holds no NUL, got {data[:100]!r}")
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            self._receive_line(line)
            start = end + 1
        if start < len(data):
            self._line += data[start:]
            self._check(self._line)

    def _receive_line(self, line: bytes) -> None:
        self._check(line)
        owner, reader = self._owed[0]
        refused = None if self._size else reader.refusal.fullmatch(line)
        self._size += len(line) + ROW_COST
        if refused is not None or reader.take(line):
            self._owed.popleft()
            self._size = 0
            owner(reader.value if refused is None else refusal(refused))

    def _check(self, line: bytes | bytearray) -> None:
        """See that a line, or the beginning of one, may come now."""
        if not self._owed:
            raise RemoteProtocolError(f"nothing was asked, got {bytes(line[:100])!r}")
        if self._size + len(line) > self._max_size:
            raise RemoteProtocolError(
                f"an answer is longer than {self._max_size} bytes, {ROW_COST} added for each line"
            )
