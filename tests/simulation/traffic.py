"""What was seen on the wires."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import PACKETS, REQUEST, RESPONSE, PacketType, split

if TYPE_CHECKING:
    from tests.simulation.loop import SimulatedLoop
    from tests.simulation.network import Wire

_SUBMITS: Final = {kind for kind in PACKETS if kind.name.startswith("SUBMIT_JOB")}
_ENDS: Final = {PacketType.WORK_COMPLETE, PacketType.WORK_FAIL, PacketType.WORK_EXCEPTION}


class Traffic:
    """Reads along on all connections."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.submitted: Counter[str] = Counter()  # how often, by the name in the workload
        self.submitted_at: dict[str, float] = {}
        self._loop = loop
        self._decoders: dict[Wire, Decoder] = {}
        self._owed: dict[Wire, Counter[bytes]] = {}  # by the server's end and handle: results that are to come

    def tap(self, wire: Wire, data: bytes) -> None:
        """See what is written, before the network does anything to it."""
        to_server = wire.remote.endswith(":4730")
        decoder = self._decoders.get(wire)
        if decoder is None:
            decoder = self._decoders[wire] = Decoder(REQUEST if to_server else RESPONSE)
        for kind, bodies in decoder.feed(data):
            if kind in _SUBMITS:
                for body in bodies:
                    self._count(split(PacketType(kind), body)[-1])
            elif kind == PacketType.JOB_CREATED:
                self._owed.setdefault(wire, Counter()).update(bodies)
            elif kind in _ENDS and not to_server:
                self._owed.setdefault(wire, Counter()).subtract(body.partition(b"\0")[0] for body in bodies)

    def _count(self, workload: bytes) -> None:
        name = workload.decode().partition(" ")[0]
        self.submitted[name] += 1
        self.submitted_at[name] = self._loop.time()

    def ended(self, wire: Wire) -> list[bytes]:
        """Return the handles that a server has given on this connection, and has told the results of."""
        return [handle for handle, owed in self._owed.get(wire, {}).items() if owed <= 0]
