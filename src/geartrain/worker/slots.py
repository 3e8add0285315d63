"""Distributes a worker's slots among its job servers so that none of them starves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["Grabber", "SlotAccount", "Slots"]

J = TypeVar("J")


class Grabber(Protocol):
    """A connection that requests jobs when it is its turn."""

    @property
    def may_grab(self) -> bool:
        """Whether to request one more job."""

    def grab(self) -> None:
        """Request a job."""


G = TypeVar("G", bound=Grabber)


class SlotAccount(Generic[G]):
    """
    What one connection has requested. Only :class:`Slots` writes to it.

    Attributes:
        grabber: The connection.
        pending_grabs: Its grabs without a reply.
        reserved: Slots reserved for the jobs that its grabs may bring.
        is_queued: Whether it waits for its turn to grab.
    """

    __slots__ = ("grabber", "is_queued", "pending_grabs", "reserved")

    def __init__(self, grabber: G) -> None:
        self.grabber: G = grabber
        self.pending_grabs: int = 0
        self.reserved: int = 0
        self.is_queued: bool = False


class Slots(Generic[G, J]):
    """
    Limits the number of jobs that run at the same time.

    Each grab reserves a slot for the job that it may bring. The connections take turns, one grab at a time: with one
    slot and two job servers that have jobs, each gets every second grab.

    Args:
        concurrency: The number of slots.
        start: Called with a connection and a job that has been given a slot.
        limit: The number of jobs to take in total.

    Attributes:
        free: Slots that are neither reserved nor in use.
        remaining: Jobs still to be taken until the limit.
    """

    def __init__(self, concurrency: int, start: Callable[[G, J], None], limit: float = math.inf) -> None:
        self.concurrency = concurrency
        self.free: int = concurrency
        self.remaining: float = limit
        self._pending_grabs = 0  # grabs without a reply, over all accounts
        self._start = start
        self._on_drained: Callable[[], None] | None = None  # set when no more jobs are requested
        self._queue: deque[SlotAccount[G]] = deque()
        self._overflow: deque[tuple[G, J]] = deque()  # jobs that arrived after their slot was reclaimed
        self._is_starting_overflow = False

    @property
    def is_open(self) -> bool:
        """Whether jobs are requested."""
        return self._on_drained is None

    @property
    def is_idle(self) -> bool:
        """Whether no slot is in use or reserved, and no job waits for one."""
        return self.free == self.concurrency and not self._overflow

    def open_account(self, grabber: G) -> SlotAccount[G]:
        """Return the account of a new connection. Close it with :meth:`remove`."""
        return SlotAccount(grabber)

    def close(self, on_drained: Callable[[], None]) -> None:
        """Request no more jobs, and call ``on_drained``, possibly more than once, when the running jobs have ended."""
        self._on_drained = on_drained
        self.distribute()

    def enqueue(self, account: SlotAccount[G]) -> None:
        """Queue a connection for its turn to grab; call :meth:`distribute` afterwards."""
        if not account.is_queued:
            account.is_queued = True
            self._queue.append(account)

    def distribute(self) -> None:
        """Let the queued connections grab in turn while there are free slots. Call it after every change."""
        if self._on_drained is not None:
            if self.is_idle:
                self._on_drained()
            return
        queue = self._queue
        while self.free and queue and self._pending_grabs < self.remaining:
            account = queue.popleft()
            grabber = account.grabber
            if not grabber.may_grab:
                account.is_queued = False
                continue
            queue.append(account)
            self.free -= 1
            self._pending_grabs += 1
            account.pending_grabs += 1
            account.reserved += 1
            grabber.grab()

    def on_replies(self, account: SlotAccount[G], replies: int, jobs: Sequence[J]) -> None:
        """Handle replies to grabs: start the jobs that they brought, immediately or when there is a slot."""
        self._pending_grabs -= replies
        account.pending_grabs -= replies
        self.remaining -= len(jobs)
        count = min(len(jobs), account.reserved)
        unused = min(replies - len(jobs), account.reserved - count)
        account.reserved -= count
        if count < len(jobs):
            self._overflow.extend((account.grabber, job) for job in jobs[count:])
            jobs = jobs[:count]
        # An eager task may end while it is being started, and its slot go to the next grab: count everything before.
        for job in jobs:
            self._start(account.grabber, job)
        self._return_slots(account, min(unused, account.reserved))

    def release(self) -> None:
        """Free the slot of a job that has ended."""
        self.free += 1
        if self._is_starting_overflow:
            return  # the job ended while it was being started; the next one in the overflow gets its slot
        if self._overflow:
            self._start_overflow()
        self.distribute()

    def reclaim(self, account: SlotAccount[G]) -> None:
        """
        Give the slots reserved for a connection to the others, because its job server is slow to reply.

        A job that it assigns later gets the next free slot.
        """
        self._return_slots(account, account.reserved)
        self.distribute()

    def remove(self, account: SlotAccount[G]) -> None:
        """Drop a lost connection, with the jobs it brought that have not been started."""
        if self._overflow:
            self._overflow = deque(item for item in self._overflow if item[0] is not account.grabber)
        self._pending_grabs -= account.pending_grabs
        account.pending_grabs = 0
        self.reclaim(account)

    def _return_slots(self, account: SlotAccount[G], count: int) -> None:
        account.reserved -= count
        self.free += count
        if self._overflow:
            self._start_overflow()

    def _start_overflow(self) -> None:
        self._is_starting_overflow = True
        try:
            while self.free and self._overflow:
                self.free -= 1
                self._start(*self._overflow.popleft())
        finally:
            self._is_starting_overflow = False
