"""What turns the objects of a program into data, and back."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from geartrain.compat.shared.flavour import Flavour

__all__ = ["DataEncoder", "Encoder", "SharedNoopEncoder"]


class Encoder(Protocol):
    """What ``data_encoder`` must be: a subclass of :class:`DataEncoder`, or anything with these methods."""

    def encode(self, encodable_object: Any, /) -> Any:
        """Return the data of an object."""

    def decode(self, decodable_string: Any, /) -> Any:
        """Return the object of some data."""


class DataEncoder:
    """
    The base class of encoders: override both methods, and set ``data_encoder`` of a client or worker to the class.

    Data are bytes or text, depending on the flavour; ``encode`` may return either.
    """

    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        """Return the data of an object."""
        raise NotImplementedError

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        """Return the object of some data."""
        raise NotImplementedError


class SharedNoopEncoder(DataEncoder):
    """Sends data as they are, and refuses other objects."""

    flavour: ClassVar[Flavour]

    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        """
        Return the data unchanged.

        Raises:
            TypeError: If they are neither bytes nor text; in the text flavour, if they are not text.
        """
        cls.flavour.check(encodable_object)
        return encodable_object

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        """Return the data unchanged."""
        return decodable_string
