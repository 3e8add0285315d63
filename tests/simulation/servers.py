"""What the simulation looks up, and changes, inside a job server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from geartrain import JobServer
    from geartrain.peers import Running
    from geartrain.protocol.queue import QueuePeer
    from geartrain.protocol.server import Broker
    from tests.simulation.network import Wire


def _running(server: JobServer) -> Running:
    assert server._running is not None, "only servers that run are looked at"
    return server._running


def broker_of(server: JobServer) -> Broker:
    """Return what holds the jobs of a server."""
    return _running(server).broker


def peers_of(server: JobServer) -> dict[QueuePeer, Wire]:
    """Return the peers of a server, each with the server's end of its connection."""
    return {
        peer: cast("Wire", link.connection._transport)
        for peer, link in _running(server).links.items()
        if link.connection._transport is not None
    }
