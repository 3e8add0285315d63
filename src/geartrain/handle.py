"""The name of a job at its job server, and what the server says of it."""

from __future__ import annotations

from typing import NamedTuple

from geartrain.address import SCHEMES, Address
from geartrain.protocol.numbers import fraction, parse_number
from geartrain.protocol.packets import MAX_HANDLE
from geartrain.validation import shorten

__all__ = ["JobHandle", "JobStatus", "names_server"]


class JobHandle(NamedTuple):
    """
    Where a job is, in a form that can be stored: ``str(handle)`` is ``127.0.0.1:4730//H:host:1``.

    A job server counts its handles from 1 again when it is started again, so an old one may come to mean another job.
    Handles are equal if server and handle are; what else is known of the job makes no difference.

    Attributes:
        server: The job server's address.
        handle: The job server's own name for the job.
        function: The function, without a client's prefix, or ``None`` where it is not known.
        unique: The unique with which the job was sent, a generated one too; ``""`` for none, ``None`` where it is not
            known.
    """

    server: str
    handle: str
    function: str | None = None
    unique: str | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self.server == other.server and self.handle == other.handle

    def __ne__(self, other: object) -> bool:  # a tuple has one of its own
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self.server != other.server or self.handle != other.handle

    def __hash__(self) -> int:
        return hash((self.server, self.handle))

    def token(self) -> str:
        """
        Return a string with all that is known of the job, which :meth:`parse` reads.

        It is ``job:SERVER/HANDLE/FUNCTION/UNIQUE`` in ASCII, without spaces: other characters than letters, digits and
        ``_.~:[]`` are percent-encoded, and ``-`` stands for what is not known.
        """
        return "job:" + "/".join(map(_quote, self))

    @classmethod
    def parse(cls, text: str) -> JobHandle:
        """
        Read what ``str`` or :meth:`token` wrote.

        Raises:
            ValueError: If it is no handle with a job server in front.
            TypeError: If it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"a handle must be a string like 127.0.0.1:4730//H:host:1, got {shorten(text)}")
        if _is_token(text):
            return cls._parse_token(text)
        # The first double slash ends the server, which holds none but that of its scheme; the handle may hold any.
        scheme, separator, rest = text.partition("://")
        scheme, rest = (scheme + separator, rest) if separator and scheme.lower() in SCHEMES else ("", text)
        server, separator, handle = rest.partition("//")
        if not separator or not handle:
            raise ValueError(f"a handle must be written like 127.0.0.1:4730//H:host:1, got {shorten(text)}")
        return cls(str(Address.parse(scheme + server)), handle)

    @classmethod
    def _parse_token(cls, text: str) -> JobHandle:
        parts = [_unquote(part) for part in text.removeprefix("job:").split("/")]
        if len(parts) != 4 or not parts[0] or not parts[1]:
            form = "job:127.0.0.1:4730/H:host:1/f/unique"
            raise ValueError(f"a token of a handle must be written like {form}, got {shorten(text)}")
        return cls(str(Address.parse(parts[0])), parts[1], parts[2], parts[3])

    @property
    def wire(self) -> bytes:
        """
        The bytes by which the job server knows the job.

        Raises:
            ValueError: If no job server could have given it.
        """
        encoded = self.handle.encode("utf-8", "surrogateescape")
        if not 1 <= len(encoded) <= MAX_HANDLE or b"\0" in encoded:
            raise ValueError(f"a handle must have 1 to {MAX_HANDLE} bytes and no NUL, got {shorten(self.handle)}")
        return encoded

    def __str__(self) -> str:
        return f"{self.server}//{self.handle}"


def names_server(text: str) -> bool:
    """Return whether a text says at which job server the job is, rather than being the job server's own handle."""
    return "//" in text or (_is_token(text) and text.count("/") == 3)


def _is_token(text: str) -> bool:
    return text.startswith("job:") and "//" not in text  # there is one in what `str` writes


def _quote(text: str | None) -> str:
    if text is None:
        return "-"
    from urllib.parse import quote  # few need it, and it takes a while to load

    return quote(text, safe=":[]", errors="surrogateescape").replace("-", "%2D")


def _unquote(text: str) -> str | None:
    if text == "-":
        return None
    from urllib.parse import unquote

    return unquote(text, errors="surrogateescape")


class JobStatus(NamedTuple):
    """
    What a job server says of a job.

    Attributes:
        known: Whether it has the job; one that has ended is forgotten at once.
        running: Whether a worker has it.
        numerator: How far the worker said that it has come; 0 if it said nothing.
        denominator: Of how much.
        waiting_clients: How many submissions wait for the result, or ``None`` where the server does not say.
    """

    known: bool
    running: bool
    numerator: int | float
    denominator: int | float
    waiting_clients: int | None = None

    @classmethod
    def read(cls, arguments: list[bytes]) -> JobStatus:
        """Make one of the arguments of STATUS_RES or STATUS_RES_UNIQUE."""
        # Perl's server sends empty numbers where the worker said nothing, and any text that a worker sent.
        numbers = [parse_number(argument) or 0 for argument in arguments[3:]]
        clients = int(numbers[2]) if len(numbers) > 2 else None
        return cls(arguments[1] == b"1", arguments[2] == b"1", numbers[0], numbers[1], clients)

    @property
    def fraction(self) -> float | None:
        """Between 0.0 and 1.0, or ``None`` where the two numbers make no such fraction."""
        return fraction(self.numerator, self.denominator)
