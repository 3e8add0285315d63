"""Observes the traffic on the wires."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import PACKETS, REQUEST, RESPONSE, PacketType, split
from tests.simulation.outcomes import REFUSED, TOO_LARGE, WORKLOAD_REFUSED

if TYPE_CHECKING:
    from tests.simulation.loop import SimulatedLoop
    from tests.simulation.network import Wire

MAX_OPEN_PROBES: Final = 4  # unanswered GET_STATUS requests that the simulation allows on a client's connection

_SUBMITS: Final = {kind for kind in PACKETS if kind.name.startswith("SUBMIT_JOB")}
_ENDS: Final = {PacketType.WORK_COMPLETE, PacketType.WORK_FAIL, PacketType.WORK_EXCEPTION}
_QUESTIONS: Final = {PacketType.GET_STATUS, PacketType.ECHO_REQ, PacketType.OPTION_REQ}
_ANSWERS: Final = {PacketType.STATUS_RES, PacketType.ECHO_RES, PacketType.OPTION_RES}
_REFUSALS: Final = {b"QUEUE_ERROR": REFUSED, b"ARGUMENT_TOO_LARGE": WORKLOAD_REFUSED}  # by code

# A function that waits for `drain` may still send an update or two when others have filled the buffer meanwhile.
_MAX_UPDATES_WHILE_FULL: Final = 8


class _ClientConnection:
    """One connection of a client: the requests without a direct reply, and the jobs without a result."""

    def __init__(self) -> None:
        self.unanswered: deque[tuple[PacketType, str]] = deque()  # each with the name of the job that it submits
        self.names: dict[bytes, deque[str]] = {}  # by handle: jobs that have not ended
        self.open_probes = 0  # GET_STATUS without an answer


class Traffic:
    """
    Reads all connections.

    Args:
        loop: The world's loop.
        occurred: How often each event of interest occurred.
        max_size: The largest result or update that clients accept.

    Attributes:
        submitted: How often each job was submitted, by the name in its workload.
        submitted_at: When it was last submitted.
        fates: What job servers sent for each try of a job, in order: "accepted" (of a background job), "forgotten",
            the name of the packet that ended it, or a constant of :mod:`tests.simulation.outcomes`.
        uniques: The uniques with which a background job was submitted, by its name.
        occurred: How often each event of interest occurred.
        broken: Promises that were broken on the wire.
    """

    def __init__(self, loop: SimulatedLoop, occurred: Counter[str], max_size: int) -> None:
        self.submitted: Counter[str] = Counter()
        self.submitted_at: dict[str, float] = {}
        self.fates: dict[str, list[str]] = {}
        self.uniques: dict[str, set[bytes]] = {}
        self.occurred = occurred
        self.broken: list[str] = []
        self._loop = loop
        self._max_size = max_size
        self._decoders: dict[Wire, Decoder] = {}
        self._pending: dict[Wire, Counter[bytes]] = {}  # by the server's end and handle: pending results
        self._connections: dict[Wire, _ClientConnection] = {}  # by the client's end
        self._updates_while_full: Counter[Wire] = Counter()

    def tap(self, wire: Wire, data: bytes) -> None:
        """Observe what is written, before the network delays or splits it."""
        to_server = wire.remote.endswith(":4730")
        decoder = self._decoders.get(wire)
        if decoder is None:
            decoder = self._decoders[wire] = Decoder(REQUEST if to_server else RESPONSE)
        is_client = (wire.local if to_server else wire.remote).startswith("client:")
        for kind, bodies in decoder.feed(data):
            if is_client and to_server:
                self._see_request(wire, kind, bodies)
            elif is_client:
                self._see_response(wire, kind, bodies)
            elif to_server and kind == PacketType.WORK_DATA:
                self._see_update(wire)

    # What clients send.

    def _see_request(self, wire: Wire, kind: int, bodies: list[bytes]) -> None:
        connection = self._connections.setdefault(wire, _ClientConnection())
        if kind in _SUBMITS:
            if wire.is_full:
                self.broken.append(f"{wire} submits jobs although the connection is not writable")
            for body in bodies:
                _, unique, *_, workload = split(PacketType(kind), body)
                name = self._count(workload)
                connection.unanswered.append((PacketType(kind), name))
                if kind == PacketType.SUBMIT_JOB_BG:
                    self.uniques.setdefault(name, set()).add(unique)
        elif kind in _QUESTIONS:
            connection.unanswered.extend([(PacketType(kind), "")] * len(bodies))
        if kind == PacketType.GET_STATUS:
            connection.open_probes += len(bodies)
            self.occurred["probe"] += len(bodies)
            if connection.open_probes == MAX_OPEN_PROBES:
                self.occurred["full batch of probes"] += 1
            if connection.open_probes > MAX_OPEN_PROBES:
                self.broken.append(f"{connection.open_probes} open probes on {wire}")

    def _count(self, workload: bytes) -> str:
        name = workload.decode().partition(" ")[0]
        self.submitted[name] += 1
        self.submitted_at[name] = self._loop.time()
        return name

    # What clients receive.

    def _see_response(self, wire: Wire, kind: int, bodies: list[bytes]) -> None:
        assert wire.other is not None, "a connection has two ends"
        connection = self._connections.setdefault(wire.other, _ClientConnection())
        pending = self._pending.setdefault(wire, Counter())
        for body in bodies:
            if kind == PacketType.JOB_CREATED:
                pending[body] += 1
                submission, name = connection.unanswered.popleft()
                if submission.name.endswith("_BG"):
                    self._note_fate(name, "accepted")
                else:
                    connection.names.setdefault(body, deque()).append(name)
            elif kind in _ENDS:
                handle = body.partition(b"\0")[0]
                pending[handle] -= 1
                if names := connection.names.get(handle):
                    too_large = len(body) - len(handle) - 1 > self._max_size
                    self._note_fate(names.popleft(), TOO_LARGE if too_large else PacketType(kind).name)
            elif kind == PacketType.WORK_DATA:
                handle, _, data = body.partition(b"\0")
                if len(data) > self._max_size and (names := connection.names.get(handle)):
                    self._note_fate(names.popleft(), TOO_LARGE)
            elif kind == PacketType.ERROR and (fate := _REFUSALS.get(body.partition(b"\0")[0])) is not None:
                self._note_fate(connection.unanswered.popleft()[1], fate)
            elif kind in _ANSWERS:
                connection.unanswered.popleft()
                if kind == PacketType.STATUS_RES:
                    self._see_status(connection, body)

    def _see_status(self, connection: _ClientConnection, body: bytes) -> None:
        connection.open_probes -= 1
        handle, is_known, *_ = split(PacketType.STATUS_RES, body)
        if is_known == b"0":
            for name in connection.names.pop(handle, ()):
                self._note_fate(name, "forgotten")

    def _note_fate(self, name: str, fate: str) -> None:
        self.fates.setdefault(name, []).append(fate)
        self.occurred[f"try: {fate}"] += 1

    def ended(self, wire: Wire) -> list[bytes]:
        """Return the handles of all jobs of this connection whose results the server has sent."""
        return [handle for handle, count in self._pending.get(wire, {}).items() if count <= 0]

    def has_pending_reply(self, wire: Wire) -> bool:
        """Whether a direct reply to a client is pending on this connection."""
        connection = self._connections.get(wire.other) if wire.other is not None else None
        return connection is not None and bool(connection.unanswered)

    # What workers send.

    def _see_update(self, wire: Wire) -> None:
        if not wire.is_full:
            self._updates_while_full[wire] = 0
            return
        self._updates_while_full[wire] += 1
        if self._updates_while_full[wire] > _MAX_UPDATES_WHILE_FULL:
            self.broken.append(f"{wire} goes on sending updates although the connection is not writable")
