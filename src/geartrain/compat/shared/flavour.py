"""The two flavours of python-gearman: bytes and text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Errors", "Flavour", "to_bytes", "to_text"]


class Errors(NamedTuple):
    """
    The exceptions of one flavour.

    Attributes:
        base: ``GearmanError``.
        connection: ``ConnectionError``.
        unavailable: ``ServerUnavailable``.
        protocol: ``ProtocolError``.
        attempts: ``ExceededConnectionAttempts``.
        client_state: ``InvalidClientState``.
        worker_state: ``InvalidWorkerState``.
        admin_state: ``InvalidAdminClientState``.
    """

    base: type[Exception]
    connection: type[Exception]
    unavailable: type[Exception]
    protocol: type[Exception]
    attempts: type[Exception]
    client_state: type[Exception]
    worker_state: type[Exception]
    admin_state: type[Exception]


@dataclass(frozen=True)
class Flavour:
    """
    Bytes or text, and whose exceptions.

    Attributes:
        is_text: Whether tasks, uniques, handles and data are ``str`` instead of ``bytes``.
        errors: Its exceptions.
    """

    is_text: bool
    errors: Errors

    def from_bytes(self, data: bytes) -> Any:
        """Return bytes as users of this flavour get them."""
        return data.decode("utf-8", "surrogateescape") if self.is_text else data

    def from_text(self, text: str) -> Any:
        """Return text as users of this flavour get it."""
        return text if self.is_text else to_bytes(text)

    def check(self, data: object) -> None:
        """Raise TypeError if data is not of this flavour. Text is accepted in both."""
        accepted = (str,) if self.is_text else (bytes, str)
        if not isinstance(data, accepted):
            expected = "text" if self.is_text else "bytes or text"
            raise TypeError(f"expected {expected}, got {data!r}: set a data_encoder to send other objects")


def to_text(value: str | bytes) -> str:
    """
    Return the text of a task, unique or handle.

    Raises:
        TypeError: If it is neither text nor bytes.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise TypeError(f"expected bytes or text, got {value!r}")


def to_bytes(value: str | bytes | bytearray | memoryview) -> bytes:
    """
    Return what is sent for a task, unique, handle or encoded data.

    Raises:
        TypeError: If it is neither text nor bytes.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return to_text(value).encode("utf-8", "surrogateescape")
