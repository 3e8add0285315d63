"""
The answers of the text protocol: what they are to users, and the readers that make that of their lines.

Names are ``str``, bytes that are not UTF-8 kept by surrogateescape.
"""

from __future__ import annotations

import re
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
    One function in the answer to ``status``.

    Attributes:
        function: Its name.
        total: Jobs that are queued or running.
        running: Jobs that a worker has.
        workers: Connections that can do it.
    """

    function: str
    total: int
    running: int
    workers: int

    @property
    def queued(self) -> int:
        """Jobs that no worker has yet."""
        return max(self.total - self.running, 0)


class PriorityStatus(NamedTuple):
    """
    One function in the answer to ``prioritystatus``: how many jobs of each priority are queued, running ones left out.

    Attributes:
        function: Its name.
        high: Queued jobs of priority HIGH.
        normal: Queued jobs of priority NORMAL, those for a later time included.
        low: Queued jobs of priority LOW.
        workers: Connections that can do it.
    """

    function: str
    high: int
    normal: int
    low: int
    workers: int


class WorkerStatus(NamedTuple):
    """
    One connection in the answer to ``workers``; clients are listed as well, the one that asks included.

    Attributes:
        fd: The job server's number for the connection.
        ip: Where it comes from. gearmand writes IPv6 addresses garbled.
        client_id: What it called itself by SET_CLIENT_ID, ``"-"`` if nothing.
        functions: What it can do. The job server parts them by spaces, so a name that holds one is seen as two.
    """

    fd: int
    ip: str
    client_id: str
    functions: tuple[str, ...]


class ListedJob(NamedTuple):
    """
    One job in the answer to ``show jobs``.

    Attributes:
        handle: Its handle on this job server.
        retries: How often a worker lost it; gearmand counts to 255 and begins anew.
        ignored: Its last client went away: no worker will get it any more.
        persisted: It was given to the job server's persistent store: it is a background job. By default gearmand has
            a store that keeps nothing.
    """

    handle: str
    retries: int
    ignored: bool
    persisted: bool

    @classmethod
    def of(cls, handle: str, retries: int, ignored: int, persisted: int) -> ListedJob:
        """Make it of the numbers that a job server writes."""
        return cls(handle, retries, bool(ignored), bool(persisted))


class ListedUnique(NamedTuple):
    """
    One job in the answer to ``show unique jobs``.

    Attributes:
        unique: Its unique, empty if it has none. One that holds a newline is seen as two.
    """

    unique: str


class Refusal(NamedTuple):
    """
    An answer ``ERR``.

    Attributes:
        code: Its first word, where that is a code, such as ``"UNKNOWN_COMMAND"``; else empty.
        text: The rest, with spaces for the plus signs that gearmand writes in place of them.
    """

    code: str
    text: str


class Reader(Protocol[T_co]):
    """Reads the answer to one command."""

    refusal: ClassVar[re.Pattern[bytes]]  # what a first line looks like that is ERR instead

    @property
    def value(self) -> T_co:
        """The answer, once it is whole."""

    def take(self, line: bytes) -> bool:
        """
        Take a line, without its LF, and return whether the answer is whole.

        Raises:
            RemoteProtocolError: If it cannot be part of such an answer.
        """


class OneLine(Generic[T]):
    """An answer of one line; ``pattern`` is what it looks like, ``value_of`` makes the value of the pattern's group."""

    refusal: ClassVar[re.Pattern[bytes]] = re.compile(rb"ERR\b(.*?)\r?", re.DOTALL)
    value: T

    def __init__(self, pattern: bytes, value_of: Callable[[str], T]) -> None:
        self._pattern = pattern
        self._value_of = value_of

    def take(self, line: bytes) -> bool:  # noqa: D102
        match = re.fullmatch(self._pattern, line.removesuffix(b"\r"), re.DOTALL)
        if match is None:
            raise RemoteProtocolError(f"an answer is OK or ERR, got {line[:100]!r}")
        self.value = self._value_of(_text(match[1]))
        return True


class Rows(Generic[Row]):
    """
    An answer of any number of rows up to a dot.

    Names that clients choose may contain newlines, so a line with only a dot may be part of a row. Where a mark follows
    the answer (see :mod:`geartrain.protocol.text`) the last line before it is the end; where none does, :meth:`take`
    takes the first line that can be the end.
    """

    # A row may begin with ERR as well. A refusal has no tab, and ends in CR LF, for which rows have LF alone; one job
    # server (rustygeard) leaves out the CR.
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

    def add(self, line: bytes) -> None:
        """
        Add a line of a row.

        Raises:
            RemoteProtocolError: If no row of this answer has such a line.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """
        Complete the answer.

        Raises:
            RemoteProtocolError: If the last row is incomplete.
        """
        if not self.may_end:
            raise RemoteProtocolError("the last row of an answer is incomplete")


class Counted(Rows[Row]):
    """
    Rows of a name and numbers, separated by tabs.

    They are read from the right, since a name may contain tabs. It may contain newlines too: a line that does not end
    in the numbers is the beginning of a name.
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
    # An empty id is nothing between two spaces. The first lone colon ends the id: functions have more of them.
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
            raise RemoteProtocolError(f"a row of workers begins with a number and an address, got {line[:100]!r}")
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
            assert end, "a row begins as _BEGIN says and holds a colon"
            names = tuple(_text(name) for name in rest[end.end() :].split(b" ") if name)
            self.value.append(WorkerStatus(int(fd), _text(ip), _text(rest[: end.start()]), names))
            self._lines.clear()


class Uniques(Rows[ListedUnique]):
    """Rows of nothing but a unique."""

    def add(self, line: bytes) -> None:  # noqa: D102
        self.value.append(ListedUnique(_text(line)))


def is_end(line: bytes) -> bool:
    """Whether a line is what an answer of rows ends with."""
    return line in (b".", b".\r")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def refusal(match: re.Match[bytes]) -> Refusal:
    """Make the value of what a reader's ``refusal`` matched."""
    # "ERR function not found" has no code; all codes have an underscore.
    words = _text(match[1]).strip()
    code, _, text = words.partition(" ")
    return Refusal(code, text.replace("+", " ").strip()) if "_" in code else Refusal("", words.replace("+", " "))
