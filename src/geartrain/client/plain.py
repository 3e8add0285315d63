"""What jobs have in common for which no :class:`Job` is made as long as all goes well."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from geartrain.protocol.packets import PacketType

if TYPE_CHECKING:
    from geartrain.client.job import Job

__all__ = ["Plain"]


class Plain:
    """
    A job, or several, of which nobody has asked to be told anything but the result.

    That makes them cheap: of a job that goes well only its result is kept. What does not go well is not dealt with
    here. Such a job becomes a :class:`Job`, as if it had been one from the start, and that fails, or is tried again,
    as any other does.
    """

    __slots__ = ()

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED
    _merges: ClassVar[bool] = False

    @abstractmethod
    def _become_job(self, handle: bytes | None) -> Job:
        """
        Return the job that would be there now if it had been one from the start.

        Args:
            handle: Of the one that has trouble; ``None`` is for the first that has not been given any.
        """

    # What nobody has asked for.

    def _data(self, data: bytes) -> None:
        pass

    _warning = _data

    def _status(self, numerator: bytes, denominator: bytes) -> None:
        pass

    # What has not gone well.

    def _failed(self, handle: bytes) -> None:
        self._become_job(handle)._failed(handle)

    def _raised(self, handle: bytes, data: bytes) -> None:
        self._become_job(handle)._raised(handle, data)

    def _too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        self._become_job(handle)._too_large(handle, kind, size)

    def _forgotten(self, handle: bytes) -> None:
        self._become_job(handle)._forgotten(handle)

    def _refused(self, code: bytes, text: bytes) -> None:
        self._become_job(None)._refused(code, text)

    def _connection_lost(self, handle: bytes | None, error: Exception | None) -> None:
        """Handle the loss of the connection over which one of them was sent."""
        self._become_job(handle)._connection_lost(handle, error)

    def _disconnected(self, handle: bytes | None) -> None:
        """End one of them because the client was disconnected."""
        self._become_job(handle)._disconnected(handle)
