"""Whom the client's side of a connection tells what the job server says."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from geartrain.protocol.packets import PacketType

__all__ = ["Abandoned", "Merged", "Owner", "Query", "Submission"]


class Owner(Protocol):
    """Whoever has a place in the line of direct replies."""

    @property
    def expects(self) -> int:
        """The packet type of the reply; an ERROR may take its place."""

    def _refused(self, code: bytes, text: bytes) -> None:
        """Hear that the job server answered ERROR instead."""


class Query(Owner, Protocol):
    """A question with one answer: a status, an echo, an option."""

    @property
    def asked(self) -> bytes:
        """What was asked for: a handle, a unique, bytes to echo, the name of an option. The answer begins with it."""

    def _answered(self, arguments: list[bytes]) -> None:
        """Hear the answer's arguments, in the order of the table of packets."""


class Submission(Owner, Protocol):
    """A job as the core sees it: told what happens to it, each exactly when it is on the wire."""

    _ticket: int | bytes | None
    """Where the core finds it: its place in the line until JOB_CREATED, then its handle. Only the core sets it."""

    @property
    def _merges(self) -> bool:
        """Whether it has a unique, so that a later submission may be given the same handle."""

    def _created(self, handle: bytes) -> bool:
        """Hear the handle; return whether results are to come, which is not so for a background job."""

    def _data(self, data: bytes) -> None: ...
    def _warning(self, data: bytes) -> None: ...
    def _status(self, numerator: bytes, denominator: bytes) -> None: ...

    # The rest are terminal: one of them is called, once, unless the submission is forgotten before.
    def _completed(self, data: bytes) -> None: ...
    def _failed(self) -> None: ...
    def _raised(self, data: bytes) -> None: ...
    def _forgotten(self) -> None:
        """Hear that the job server no longer knows the job and never said how it ended."""


class Abandoned:
    """Keeps the place of a submission that nobody waits for any more, and counts what still arrives for it."""

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED
    _ticket: int | bytes | None = None

    def __init__(self, count: Callable[[], None], *, merges: bool) -> None:
        self._count = count
        self._merges = merges

    def _created(self, handle: bytes) -> bool:
        # Only where a later submission may be merged with it do its copies have to be told from the other's.
        return self._merges

    def _drop(self, *_: object) -> None:
        self._count()

    _refused = _data = _warning = _status = _completed = _failed = _raised = _drop

    def _forgotten(self) -> None:
        pass


class Merged:
    """Submissions with one handle: copy k of each packet is for submission k, and a terminal one ends the first."""

    __slots__ = ("_turn", "owners")

    def __init__(self, owners: list[Submission]) -> None:
        self.owners: list[Submission] = owners
        self._turn = 0

    def next(self) -> Submission:
        """Return whom the next copy of a packet that is not terminal is for."""
        owner = self.owners[self._turn % len(self.owners)]
        self._turn += 1
        return owner

    def end_first(self) -> Submission:
        """Return, and take out, whom the next copy of a terminal packet is for."""
        self._turn = 0
        return self.owners.pop(0)
