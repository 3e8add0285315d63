"""Whom the client's side of a connection tells what the job server says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from geartrain.protocol.packets import PacketType

__all__ = ["Abandoned", "Many", "Merged", "Owner", "Query", "Recipient", "Submission", "Submissions"]


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

    def _ignored(self) -> None:
        """Called when the job server has answered a later request: it does not answer such a question."""


class Recipient(Owner, Protocol):
    """Whoever is told what happens to a job, or to several, each exactly when it is on the wire."""

    @property
    def _merges(self) -> bool:
        """Whether it has a unique, so that a later submission may be given the same handle."""

    def _data(self, data: bytes) -> None: ...
    def _warning(self, data: bytes) -> None: ...
    def _status(self, numerator: bytes, denominator: bytes) -> None: ...

    # The rest are terminal: one of them is called, once for each job, unless that is forgotten before.
    def _completed(self, handle: bytes, data: bytes) -> None: ...
    def _failed(self, handle: bytes) -> None: ...
    def _raised(self, handle: bytes, data: bytes) -> None: ...
    def _too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        """Called when a packet of this type had more bytes than the limit, and was dropped."""

    def _forgotten(self, handle: bytes) -> None:
        """Hear that the job server no longer knows the job and never said how it ended."""


class Submission(Recipient, Protocol):
    """A job, as the core sees it."""

    _ticket: int | bytes | None
    """Where the core finds it: its place in the line until JOB_CREATED, then its handle. Only the core sets it."""

    def _created(self, handle: bytes) -> bool:
        """Hear the handle; return whether results are to come, which is not so for a background job."""


class Submissions(Recipient, Protocol):
    """Many jobs of one kind without a unique; what comes later is told with the handle of the one that it is for."""

    _ticket: int | bytes | None
    """Their last place in the line; the core alone sets it."""

    @property
    def _lasts(self) -> bool:
        """Whether results are to come, which is not so for background jobs."""

    def _all_created(self, handles: list[bytes]) -> None:
        """Hear the handles of the next ones, in the order of submission."""


class Many:
    """The place that several submissions in a row have in the line."""

    __slots__ = ("count", "expects", "owner")

    def __init__(self, owner: Submissions, count: int) -> None:
        self.owner: Submissions = owner
        self.expects: int = owner.expects
        self.count: int = count


class Abandoned:
    """Keeps the place of a submission that nobody waits for any more, and counts what still arrives for it."""

    expects: ClassVar[PacketType] = PacketType.JOB_CREATED
    _ticket: int | bytes | None = None
    _lasts: ClassVar[bool] = False

    def __init__(self, count: Callable[[], None], *, merges: bool) -> None:
        self._count = count
        self._merges = merges

    def _created(self, handle: bytes) -> bool:
        # Only where a later submission may be merged with it do its copies have to be told from the other's.
        return self._merges

    def _all_created(self, handles: list[bytes]) -> None:
        pass

    def _drop(self, *_: object) -> None:
        self._count()

    _refused = _data = _warning = _status = _completed = _failed = _raised = _too_large = _drop

    def _forgotten(self, handle: bytes) -> None:
        pass


class Merged:
    """Submissions with one handle: copy k of each packet is for submission k, and a terminal one ends the first."""

    __slots__ = ("_first", "_owners", "_places", "_turn")

    def __init__(self, *owners: Recipient) -> None:
        # By numbers that go on, so that none of many has to be looked for when it ends or is forgotten.
        self._owners: dict[int, Recipient] = {}
        self._places: dict[Recipient, int] = {}
        self._first = 0
        self._turn = 0
        for owner in owners:
            self.add(owner)

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[Recipient]:
        return iter(self._owners.values())

    def __contains__(self, owner: object) -> bool:
        return owner in self._places

    def add(self, owner: Recipient) -> None:
        """Attach one more, whose copies come last."""
        place = self._places[owner] = self._first + len(self._owners)
        self._owners[place] = owner

    def replace(self, owner: Recipient, stand_in: Recipient) -> None:
        """Have another one take the copies of one, if that is attached."""
        place = self._places.pop(owner, None)
        if place is not None:
            self._owners[place] = stand_in

    def next(self) -> Recipient:
        """Return whom the next copy of a packet that is not terminal is for."""
        owner = self._owners[self._first + self._turn % len(self._owners)]
        self._turn += 1
        return owner

    def end_first(self) -> Recipient:
        """Return, and take out, whom the next copy of a terminal packet is for."""
        self._turn = 0
        owner = self._owners.pop(self._first)
        self._places.pop(owner, None)  # one that stands in for others has no place of its own
        self._first += 1
        return owner
