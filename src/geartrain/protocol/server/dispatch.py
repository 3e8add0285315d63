"""Feeds the bytes that peers send to their decoders, and runs the requests of each peer in turns."""

from __future__ import annotations

from typing import Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.server.broker import MAX_TURN_WORK, STEP_WORK, Broker
from geartrain.protocol.server.peer import Peer
from geartrain.protocol.server.requests import REQUESTS, unknown

__all__ = ["receive", "resume"]

_MAX_TURN_OUTPUT: Final = 1024 * 1024  # bytes of responses to one peer
_REQUEST_WORK: Final = 5  # the least that a request counts as
_REQUEST_COST: Final = 64  # bytes; the overhead of a pending request


def receive(broker: Broker, peer: Peer, data: bytes, now: float) -> None:
    """
    Decode bytes from a peer, and run the requests in them.

    Invalid bytes raise nothing; they set ``peer.failure``. Requests that do not fit in this turn stay in
    ``peer.pending_requests``.
    """
    if peer.failure is not None:
        return
    broker.now = now
    was_pending = bool(peer.pending_requests)
    held = peer.decoder.held
    runs = peer.decoder.feed(data)
    peer.pending_requests.extend([(kind, iter(bodies)) for kind, bodies in runs])
    peer.pending_size += held + len(data) - peer.decoder.held + _REQUEST_COST * sum([len(run[1]) for run in runs])
    if not was_pending:
        _run_requests(broker, peer)


def resume(broker: Broker, peer: Peer, now: float) -> None:
    """Continue with the requests in ``peer.pending_requests``."""
    broker.now = now
    _run_requests(broker, peer)


def _run_requests(broker: Broker, peer: Peer) -> None:
    """Run pending requests until none is left, the peer has failed, or its turn is over."""
    broker.work_done = 0
    pending = peer.pending_requests
    if not _run_unfinished(broker, peer):
        return
    while pending:
        kind, bodies = pending[0]
        request = REQUESTS.get(kind, unknown)
        for body in bodies:  # an iterator: the next turn continues where this one stops
            if peer.trace is not None:
                peer.trace(peer, "<", kind, body)
            try:
                peer.unfinished_request = request(broker, peer, kind, body)
            except RemoteProtocolError as error:
                peer.fail(str(error))
            broker.work_done += _REQUEST_WORK
            is_over = (
                broker.work_done > MAX_TURN_WORK or peer.outgoing_size > _MAX_TURN_OUTPUT or peer.failure is not None
            )
            if (is_over or peer.unfinished_request is not None) and not _run_unfinished(broker, peer):
                return
        pending.popleft()
    peer.pending_size = 0
    if peer.decoder.failure is not None:
        peer.fail(str(peer.decoder.failure))


def _run_unfinished(broker: Broker, peer: Peer) -> bool:
    """Continue a long request; return whether the peer's next request may be run in this turn."""
    while peer.failure is None and peer.outgoing_size <= _MAX_TURN_OUTPUT and broker.work_done <= MAX_TURN_WORK:
        if peer.unfinished_request is None:
            return True
        if next(peer.unfinished_request, broker) is broker:
            peer.unfinished_request = None
        broker.work_done += STEP_WORK
    return False
