"""The states of a worker's connection and its transition table."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from geartrain.protocol.packets import PacketType

__all__ = ["TRANSITIONS", "WorkerState"]


class WorkerState(enum.Enum):
    """How a connection stands with regard to new jobs. In every state but CLOSED it may hold jobs."""

    AWAKE = "awake"  # no grab is unanswered, and the job server will not wake the worker
    GRABBING = "grabbing"  # at least one grab is unanswered
    SLEEPING = "sleeping"  # the job server sends NOOP as soon as there is a job
    CLOSED = "closed"


_AWAKE, _GRABBING, _SLEEPING = WorkerState.AWAKE, WorkerState.GRABBING, WorkerState.SLEEPING

# (state, packet sent or received) -> next state. A missing pair is a protocol violation by the sender. GRAB_JOB also
# stands for GRAB_JOB_UNIQ, and JOB_ASSIGN for JOB_ASSIGN_UNIQ.
TRANSITIONS: Final[Mapping[tuple[WorkerState, PacketType], WorkerState]] = {
    (_AWAKE, PacketType.CAN_DO): _AWAKE,
    (_GRABBING, PacketType.CAN_DO): _GRABBING,
    # The job server does not wake a sleeping worker for jobs of a function it has just registered; it has to grab them.
    (_SLEEPING, PacketType.CAN_DO): _AWAKE,
    (_AWAKE, PacketType.GRAB_JOB): _GRABBING,
    (_GRABBING, PacketType.GRAB_JOB): _GRABBING,
    (_SLEEPING, PacketType.GRAB_JOB): _GRABBING,
    (_AWAKE, PacketType.PRE_SLEEP): _SLEEPING,
    # The reply to the last unanswered grab leads to AWAKE instead.
    (_GRABBING, PacketType.JOB_ASSIGN): _GRABBING,
    (_GRABBING, PacketType.NO_JOB): _GRABBING,
    (_SLEEPING, PacketType.NOOP): _AWAKE,
    # A grab and a wake-up can cross on the wire; the late NOOP carries no new information.
    (_GRABBING, PacketType.NOOP): _GRABBING,
    # gearmand sends NOOP to sleeping workers only; Perl's server also sends it to others.
    (_AWAKE, PacketType.NOOP): _AWAKE,
}
