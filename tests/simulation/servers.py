"""Access of the simulation to the inside of a job server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tests.support.inside import state_of, transport_of

if TYPE_CHECKING:
    from geartrain import JobServer
    from geartrain.protocol.server.broker import Broker
    from geartrain.protocol.server.job_queue import QueuePeer
    from tests.simulation.network import Wire


def broker_of(server: JobServer) -> Broker:
    """Return the broker of a server."""
    return state_of(server).broker


def peers_of(server: JobServer) -> dict[QueuePeer, Wire]:
    """Return the peers of a server, each with the server's end of its connection."""
    return {
        peer: cast("Wire", transport_of(bridge.connection))
        for peer, bridge in state_of(server).bridges.items()
        if transport_of(bridge.connection) is not None
    }
