"""Job handles with their job server, and the status of a job."""

from __future__ import annotations

from typing import NamedTuple

from geartrain.address import SCHEMES, Address
from geartrain.protocol.numbers import fraction, parse_number
from geartrain.protocol.packets import MAX_HANDLE
from geartrain.validation import shorten

__all__ = ["JobHandle", "JobStatus", "names_server"]


class JobHandle(NamedTuple):
    """
    A job and its job server, in a form that can be stored: ``str(handle)`` is ``127.0.0.1:4730//H:host:1``.

    A job server numbers its handles from 1 after each restart, so an old handle may refer to another job. Handles are
    equal if server and handle are equal; function and unique are ignored.

    Attributes:
        server: The job server's address.
        handle: The handle that the job server assigned.
        function: The function, without a client's prefix, or ``None`` if it is unknown.
        unique: The unique of the job, including a generated one; ``""`` for none, ``None`` if it is unknown.
    """

    server: str
    handle: str
    function: str | None = None
    unique: str | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self.server == other.server and self.handle == other.handle

    def __ne__(self, other: object) -> bool:  # tuple defines it, too
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self.server != other.server or self.handle != other.handle

    def __hash__(self) -> int:
        return hash((self.server, self.handle))

    def token(self) -> str:
        """
        Return a string with all fields, which :meth:`parse` accepts.

        It is ``job:SERVER/HANDLE/FUNCTION/UNIQUE`` in ASCII, without spaces: other characters than letters, digits and
        ``_.~:[]`` are percent-encoded, and ``-`` represents an unknown field.
        """
        return "job:" + "/".join(map(_quote, self))

    @classmethod
    def parse(cls, text: str) -> JobHandle:
        """
        Parse the output of ``str`` or :meth:`token`.

        Raises:
            ValueError: If it is not a handle with a job server in front.
            TypeError: If it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"a handle must be a string like 127.0.0.1:4730//H:host:1, got {shorten(text)}")
        if _is_token(text):
            return cls._parse_token(text)
        # The first double slash ends the server, which contains only that of its scheme; the handle may contain any.
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
        The handle in bytes, as sent to the job server.

        Raises:
            ValueError: If it is not a valid handle.
        """
        encoded = self.handle.encode("utf-8", "surrogateescape")
        if not 1 <= len(encoded) <= MAX_HANDLE or b"\0" in encoded:
            raise ValueError(f"a handle must have 1 to {MAX_HANDLE} bytes and no NUL, got {shorten(self.handle)}")
        return encoded

    def __str__(self) -> str:
        return f"{self.server}//{self.handle}"


def names_server(text: str) -> bool:
    """Return whether a text contains the job server's address, rather than a handle only."""
    return "//" in text or (_is_token(text) and text.count("/") == 3)


def _is_token(text: str) -> bool:
    return text.startswith("job:") and "//" not in text  # `str` writes a double slash


def _quote(text: str | None) -> str:
    if text is None:
        return "-"
    from urllib.parse import quote  # rarely needed, and slow to import

    return quote(text, safe=":[]", errors="surrogateescape").replace("-", "%2D")


def _unquote(text: str) -> str | None:
    if text == "-":
        return None
    from urllib.parse import unquote

    return unquote(text, errors="surrogateescape")


class JobStatus(NamedTuple):
    """
    The status of a job at its job server.

    Attributes:
        known: Whether the job server has the job. It forgets a job that has ended immediately.
        running: Whether a worker is running it.
        numerator: The progress that the worker reported, 0 if it reported none.
        denominator: The total that the worker reported, 0 if it reported none.
        waiting_clients: The number of submissions that wait for the result, or ``None`` if it is not reported.
    """

    known: bool
    running: bool
    numerator: int | float
    denominator: int | float
    waiting_clients: int | None = None

    @classmethod
    def read(cls, arguments: list[bytes]) -> JobStatus:
        """Create a status from the arguments of STATUS_RES or STATUS_RES_UNIQUE."""
        # Perl's server sends empty numbers if the worker reported none, and forwards any text that a worker sent.
        numbers = [parse_number(argument) or 0 for argument in arguments[3:]]
        clients = int(numbers[2]) if len(numbers) > 2 else None
        return cls(arguments[1] == b"1", arguments[2] == b"1", numbers[0], numbers[1], clients)

    @property
    def fraction(self) -> float | None:
        """Between 0.0 and 1.0, or ``None`` if the two numbers do not give such a fraction."""
        return fraction(self.numerator, self.denominator)
