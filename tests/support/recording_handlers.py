"""Protocol handlers that record every call."""

from __future__ import annotations

from dataclasses import dataclass, field

from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.coalescing import BatchSlot, CoalescedJobs, DiscardHandler
from geartrain.protocol.job_liveness import StatusProbe
from geartrain.protocol.packets import PacketType

TERMINAL = {"completed", "failed", "raised", "too large", "refused", "forgotten"}


@dataclass(eq=False)
class Record:
    """A handler of one or several submissions that records its calls."""

    background: bool = False
    merges: bool = False
    ticket: int | bytes | None = None
    events: list[tuple[object, ...]] = field(default_factory=list)
    expects: int = PacketType.JOB_CREATED

    def on_created(self, handle: bytes) -> bool:
        self.events.append(("created", handle))
        return not self.background

    @property
    def expects_results(self) -> bool:
        return not self.background

    def on_all_created(self, handles: list[bytes]) -> None:
        self.events += [("created", handle) for handle in handles]

    def on_data(self, data: bytes) -> None:
        self.events.append(("data", data))

    def on_warning(self, handle: bytes, data: bytes) -> None:
        self.events.append(("warning", data))

    def on_status(self, numerator: bytes, denominator: bytes) -> None:
        self.events.append(("status", numerator, denominator))

    def on_complete(self, handle: bytes, data: bytes) -> None:
        self.events.append(("completed", data))

    def on_fail(self, handle: bytes) -> None:
        self.events.append(("failed",))

    def on_exception(self, handle: bytes, data: bytes) -> None:
        self.events.append(("raised", data))

    def on_too_large(self, handle: bytes, kind: PacketType, size: int) -> None:
        self.events.append(("too large", kind, size))

    def on_refused(self, code: bytes, text: bytes) -> None:
        self.events.append(("refused", code, text))

    def on_unknown(self, handle: bytes) -> None:
        self.events.append(("forgotten",))

    @property
    def ends(self) -> int:
        return sum(event[0] in TERMINAL for event in self.events)


@dataclass(eq=False)
class QueryRecord:
    """A handler of a query that records its calls."""

    argument: bytes
    expects: int
    events: list[object] = field(default_factory=list)

    def on_reply(self, arguments: list[bytes]) -> None:
        self.events.append(arguments)

    def on_refused(self, code: bytes, text: bytes) -> None:
        self.events.append((code, text))

    def on_ignored(self) -> None:
        self.events.append("ignored")


def pending_handlers(protocol: ClientProtocol) -> list[object]:
    """Return the handlers of all pending replies, once for each reply, those of accepted jobs first."""
    pending: list[object] = []
    for found in protocol._results.jobs.values():
        pending.extend(found if isinstance(found, CoalescedJobs) else (found,))
    for place in protocol._pending_replies[protocol._first_pending :]:
        pending.extend([place.handler] * place.count if isinstance(place, BatchSlot) else (place,))
    return [handler for handler in pending if not isinstance(handler, DiscardHandler | StatusProbe)]


def close_protocol(protocol: ClientProtocol) -> list[object]:
    """Close a protocol, and return the handlers of all pending replies."""
    expected = pending_handlers(protocol)
    dropped: list[object] = [handler for handler, _ in protocol.close()]
    assert dropped == expected
    return dropped
