"""Owners of what a client has sent that only write down what they are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from geartrain.protocol.packets import PacketType

TERMINAL = {"completed", "failed", "raised", "refused", "forgotten"}


@dataclass(eq=False)
class Record:
    """A submission, or several, that writes down what it is told."""

    background: bool = False
    _merges: bool = False
    _ticket: int | bytes | None = None
    told: list[tuple[object, ...]] = field(default_factory=list)
    expects: int = PacketType.JOB_CREATED

    def _created(self, handle: bytes) -> bool:
        self.told.append(("created", handle))
        return not self.background

    @property
    def _lasts(self) -> bool:
        return not self.background

    def _all_created(self, handles: list[bytes]) -> None:
        self.told += [("created", handle) for handle in handles]

    def _data(self, data: bytes) -> None:
        self.told.append(("data", data))

    def _warning(self, data: bytes) -> None:
        self.told.append(("warning", data))

    def _status(self, numerator: bytes, denominator: bytes) -> None:
        self.told.append(("status", numerator, denominator))

    def _completed(self, handle: bytes, data: bytes) -> None:
        self.told.append(("completed", data))

    def _failed(self, handle: bytes) -> None:
        self.told.append(("failed",))

    def _raised(self, handle: bytes, data: bytes) -> None:
        self.told.append(("raised", data))

    def _refused(self, code: bytes, text: bytes) -> None:
        self.told.append(("refused", code, text))

    def _forgotten(self, handle: bytes) -> None:
        self.told.append(("forgotten",))

    @property
    def ends(self) -> int:
        return sum(event[0] in TERMINAL for event in self.told)


@dataclass(eq=False)
class Question:
    """A question that writes down what it is told."""

    asked: bytes
    expects: int
    told: list[object] = field(default_factory=list)

    def _answered(self, arguments: list[bytes]) -> None:
        self.told.append(arguments)

    def _refused(self, code: bytes, text: bytes) -> None:
        self.told.append((code, text))
