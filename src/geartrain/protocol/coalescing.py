"""Submissions that share a handle or a pending reply, and stand-ins for forgotten ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from geartrain.protocol.handlers import BatchHandler, JobHandler
from geartrain.protocol.packets import PacketType

__all__ = ["BatchSlot", "CoalescedJobs", "DiscardHandler"]


class BatchSlot:
    """The pending replies of several consecutive submissions."""

    __slots__ = ("count", "expects", "handler")

    def __init__(self, handler: BatchHandler, count: int) -> None:
        self.handler: BatchHandler = handler
        self.expects: int = handler.expects
        self.count: int = count


class DiscardHandler:
    """Stands in for a submission that was forgotten, and counts what still arrives for it."""

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED
    ticket: int | bytes | None = None
    expects_results: ClassVar[bool] = False

    def __init__(self, count: Callable[[], None], *, merges: bool) -> None:
        self._count = count
        self.merges: bool = merges

    def on_created(self, handle: bytes) -> bool:
        """Handle JOB_CREATED."""
        # Its copies must be distinguished from those of another submission only if one may be merged with it later.
        return self.merges

    def on_all_created(self, handles: list[bytes]) -> None:
        """Ignore JOB_CREATED."""

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Count ERROR."""
        self._count()

    def on_data(self, data: bytes) -> None:
        """Count WORK_DATA."""
        self._count()

    def on_warning(self, handle: bytes, data: bytes) -> None:
        """Count WORK_WARNING."""
        self._count()

    def on_status(self, numerator: bytes, denominator: bytes) -> None:
        """Count WORK_STATUS."""
        self._count()

    def on_complete(self, handle: bytes, data: bytes) -> None:
        """Count WORK_COMPLETE."""
        self._count()

    def on_fail(self, handle: bytes) -> None:
        """Count WORK_FAIL."""
        self._count()

    def on_exception(self, handle: bytes, data: bytes) -> None:
        """Count WORK_EXCEPTION."""
        self._count()

    def on_too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        """Count a packet that was skipped."""
        self._count()

    def on_unknown(self, handle: bytes) -> None:
        """Ignore that the job server does not know the job."""


class CoalescedJobs:
    """Submissions with one handle: copy k of each packet is for submission k, and a terminal one ends the first."""

    __slots__ = ("_first", "_handlers", "_positions", "_turn")

    def __init__(self, *handlers: JobHandler) -> None:
        # Keyed by increasing numbers, so that ending or forgetting one of many needs no search.
        self._handlers: dict[int, JobHandler] = {}
        self._positions: dict[JobHandler, int] = {}
        self._first = 0
        self._turn = 0
        for handler in handlers:
            self.add(handler)

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[JobHandler]:
        return iter(self._handlers.values())

    def __contains__(self, handler: object) -> bool:
        return handler in self._positions

    def add(self, handler: JobHandler) -> None:
        """Attach one more, whose copies arrive last."""
        position = self._positions[handler] = self._first + len(self._handlers)
        self._handlers[position] = handler

    def replace(self, handler: JobHandler, stand_in: JobHandler) -> None:
        """Replace a submission, if it is attached, by a stand-in that receives its copies."""
        position = self._positions.pop(handler, None)
        if position is not None:
            self._handlers[position] = stand_in

    def next(self) -> JobHandler:
        """Return the submission that gets the next copy of a packet that is not terminal."""
        handler = self._handlers[self._first + self._turn % len(self._handlers)]
        self._turn += 1
        return handler

    def end_first(self) -> JobHandler:
        """Remove and return the submission that gets the next copy of a terminal packet."""
        self._turn = 0
        handler = self._handlers.pop(self._first)
        self._positions.pop(handler, None)  # a stand-in for several submissions has no position
        self._first += 1
        return handler
