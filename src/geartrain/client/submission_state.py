"""The states of a submission, and which may follow which."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

__all__ = ["TRANSITIONS", "State"]


class State(enum.Enum):
    """Where a submission is."""

    UNASSIGNED = "at no job server: new, waiting out a back-off, or waiting for a count of workers"
    WAITING = "assigned to a job server, and waiting for a connection or for room"
    SENT = "sent, without a handle yet"
    CREATED = "accepted by the job server, with a handle"
    ENDED = "done: the result, error or cancellation is known"


# Which state may follow which. A submission ends once: nothing follows ENDED.
TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    # SENT or CREATED at the start: it was sent in a batch, and gets its own record only now.
    State.UNASSIGNED: frozenset({State.WAITING, State.SENT, State.CREATED, State.ENDED}),
    # Back to UNASSIGNED when the job server cannot be reached: nothing was sent, so that costs no retry.
    State.WAITING: frozenset({State.UNASSIGNED, State.SENT, State.ENDED}),
    State.SENT: frozenset({State.UNASSIGNED, State.CREATED, State.ENDED}),
    State.CREATED: frozenset({State.UNASSIGNED, State.ENDED}),
    State.ENDED: frozenset(),
}
