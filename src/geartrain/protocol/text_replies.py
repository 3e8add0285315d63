"""
The replies of the text protocol: what users get, and the readers that build it from lines.

Names are ``str``; bytes that are not UTF-8 are kept by surrogateescape.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from geartrain.errors import RemoteProtocolError

__all__ = [
    "Counted",
    "FunctionStatus",
    "ListedJob",
    "ListedUnique",
    "OneLine",
    "PriorityStatus",
    "Reader",
    "Refusal",
    "Rows",
    "Uniques",
    "WorkerStatus",
    "Workers",
    "is_end",
    "refusal",
]

_MAX_DIGITS: Final = 20  # of 2**64

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Row = TypeVar("Row", bound=tuple[Any, ...])


class FunctionStatus(NamedTuple):
    """
    One function in the reply to ``status``.

    Attributes:
        function: The name of the function.
        total: The number of queued and running jobs.
        running: The number of jobs that are assigned to a worker.
        workers: The number of connections that have registered it.
    """

    function: str
    total: int
    running: int
    workers: int

    @property
    def queued(self) -> int:
        """The number of jobs that are not assigned to a worker."""
        return max(self.total - self.running, 0)


class PriorityStatus(NamedTuple):
    """
    One function in the reply to ``prioritystatus``: the queued jobs of each priority, without running ones.

    Attributes:
        function: The name of the function.
        high: The number of queued jobs of priority HIGH.
        normal: The number of queued jobs of priority NORMAL, including those for a later time.
        low: The number of queued jobs of priority LOW.
        workers: The number of connections that have registered it.
    """

    function: str
    high: int
    normal: int
    low: int
    workers: int


class WorkerStatus(NamedTuple):
    """
    One connection in the reply to ``workers``, which also lists clients, including the one that asks.

    Attributes:
        fd: The job server's number for the connection.
        ip: The address of the peer. gearmand garbles IPv6 addresses.
        client_id: The name that it has set with SET_CLIENT_ID, or ``"-"``.
        functions: The functions that it has registered. They are separated by spaces, so a name with a space looks like
            two.
    """

    fd: int
    ip: str
    client_id: str
    functions: tuple[str, ...]


class ListedJob(NamedTuple):
    """
    One job in the reply to ``show jobs``.

    Attributes:
        handle: Its handle on this job server.
        retries: How often a worker lost it; gearmand counts to 255 and starts again at 0.
        ignored: Its last client has left, and no worker will get it.
        persisted: It is a background job, which the job server passes to its persistent store. gearmand's default store
            keeps nothing.
    """

    handle: str
    retries: int
    ignored: bool
    persisted: bool

    @classmethod
    def of(cls, handle: str, retries: int, ignored: int, persisted: int) -> ListedJob:
        """Create it from the numbers that a job server sends."""
        return cls(handle, retries, bool(ignored), bool(persisted))


class ListedUnique(NamedTuple):
    """
    One job in the reply to ``show unique jobs``.

    Attributes:
        unique: Its unique, empty if it has none. One with a newline looks like two.
    """

    unique: str


class Refusal(NamedTuple):
    """
    An ``ERR`` reply.

    Attributes:
        code: The first word if it is a code, such as ``"UNKNOWN_COMMAND"``; otherwise empty.
        text: The rest, with spaces in place of the plus signs that gearmand sends for them.
    """

    code: str
    text: str


class Reader(Protocol[T_co]):
    """Reads the reply to one command."""

    refusal: ClassVar[re.Pattern[bytes]]  # matches a first line that is ERR instead

    @property
    def value(self) -> T_co:
        """The reply, once it is complete."""

    def take(self, line: bytes) -> bool:
        """
        Read a line without its LF, and return whether the reply is complete.

        Raises:
            RemoteProtocolError: If it cannot be part of such a reply.
        """


class OneLine(Generic[T]):
    """A reply of one line that matches ``pattern``; ``value_of`` converts its group to the value."""

    refusal: ClassVar[re.Pattern[bytes]] = re.compile(rb"ERR\b(.*?)\r?", re.DOTALL)
    value: T

    def __init__(self, pattern: bytes, value_of: Callable[[str], T]) -> None:
        self._pattern = pattern
        self._value_of = value_of

    def take(self, line: bytes) -> bool:  # noqa: D102
        match = re.fullmatch(self._pattern, line.removesuffix(b"\r"), re.DOTALL)
        if match is None:
            raise RemoteProtocolError(f"expected OK or ERR, got {line[:100]!r}")
        self.value = self._value_of(_text(match[1]))
        return True


class Rows(ABC, Generic[Row]):
    """
    A reply of any number of rows, ended by a dot.

    Names that clients choose may contain newlines, so a line with only a dot may be part of a row. If a mark follows
    the reply (see :mod:`geartrain.protocol.text`) the last line before it is the end; otherwise :meth:`take` ends at
    the first line that can be the end.
    """

    # A row may begin with ERR as well. A refusal has no tab and ends with CR LF, while rows end with LF alone; one job
    # server (rustygeard) omits the CR.
    refusal: ClassVar[re.Pattern[bytes]] = re.compile(rb"ERR (UNKNOWN_COMMAND [^\t]*?|[^\t]*?(?=\r))\r?")

    def __init__(self) -> None:
        self.value: list[Row] = []

    @property
    def may_end(self) -> bool:
        """Whether the last row is complete, as far as its lines show."""
        return True

    def take(self, line: bytes) -> bool:  # noqa: D102
        if self.may_end and is_end(line):
            self.finish()
            return True
        self.add(line)
        return False

    @abstractmethod
    def add(self, line: bytes) -> None:
        """
        Add a line of a row.

        Raises:
            RemoteProtocolError: If no row of this reply has such a line.
        """

    def finish(self) -> None:
        """
        Complete the reply.

        Raises:
            RemoteProtocolError: If the last row is incomplete.
        """
        if not self.may_end:
            raise RemoteProtocolError("the last row of an answer is incomplete")


class Counted(Rows[Row]):
    """
    Rows of a name and numbers, separated by tabs.

    They are read from the right, because a name may contain tabs. It may contain newlines as well: a line that does not
    end with the numbers is the beginning of a name.
    """

    def __init__(self, numbers: int, row: Callable[..., Row]) -> None:
        super().__init__()
        self._numbers = numbers
        self._row = row
        self._name: list[bytes] = []

    @property
    def may_end(self) -> bool:  # noqa: D102
        return not self._name

    def add(self, line: bytes) -> None:  # noqa: D102
        name, *numbers = line.removesuffix(b"\r").rsplit(b"\t", self._numbers)
        if len(numbers) == self._numbers and all(n.isdigit() and len(n) <= _MAX_DIGITS for n in numbers):
            self._name.append(name)
            self.value.append(self._row(_text(b"\n".join(self._name)), *map(int, numbers)))
            self._name.clear()
        else:
            self._name.append(line)


class Workers(Rows[WorkerStatus]):
    """Rows ``fd ip id : function function``; an id and a function may contain newlines."""

    _BEGIN: ClassVar[re.Pattern[bytes]] = re.compile(rb"\d{1,20} \S+ ")
    _COLON: ClassVar[re.Pattern[bytes]] = re.compile(rb" :(?: |\r?\Z)")
    # An empty id is nothing between two spaces. The first separate colon ends the id; functions may contain more.
    _END_OF_ID: ClassVar[re.Pattern[bytes]] = re.compile(rb" :(?:[ \r\n]|\Z)")

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[bytes] = []
        self._colon_seen = True

    @property
    def may_end(self) -> bool:  # noqa: D102
        return self._colon_seen

    def add(self, line: bytes) -> None:  # noqa: D102
        begin = self._BEGIN.match(line) if self._colon_seen else None
        if begin:
            self._finish_row()
        elif not self._lines:
            raise RemoteProtocolError(f"a row of workers must begin with a number and an address, got {line[:100]!r}")
        self._lines.append(line)
        colon = self._COLON.search(line, begin.end() if begin else 0)
        self._colon_seen = bool(colon) or (self._colon_seen and not begin)

    def finish(self) -> None:  # noqa: D102
        super().finish()
        self._finish_row()

    def _finish_row(self) -> None:
        if self._lines:
            fd, ip, rest = b"\n".join(self._lines).split(b" ", 2)
            end = self._END_OF_ID.search(rest)
            assert end, "a row matches _BEGIN and contains a colon"
            names = tuple(_text(name) for name in rest[end.end() :].split(b" ") if name)
            self.value.append(WorkerStatus(int(fd), _text(ip), _text(rest[: end.start()]), names))
            self._lines.clear()


class Uniques(Rows[ListedUnique]):
    """Rows with only a unique."""

    def add(self, line: bytes) -> None:  # noqa: D102
        self.value.append(ListedUnique(_text(line)))


def is_end(line: bytes) -> bool:
    """Return whether a line ends a reply of rows."""
    return line in (b".", b".\r")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def refusal(match: re.Match[bytes]) -> Refusal:
    """Create a refusal from the match of a reader's ``refusal``."""
    # "ERR function not found" has no code; all codes have an underscore.
    message = _text(match[1]).strip()
    code, _, text = message.partition(" ")
    return Refusal(code, text.replace("+", " ").strip()) if "_" in code else Refusal("", message.replace("+", " "))
