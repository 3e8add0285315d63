"""Asks after jobs that have been silent for long: a job server that no longer knows one has lost it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from geartrain.protocol.coalescing import CoalescedJobs
from geartrain.protocol.packets import PacketType
from geartrain.protocol.silence import SilentJobs

if TYPE_CHECKING:
    from geartrain.protocol.handlers import JobHandler, QueryHandler

__all__ = ["Inquiries", "Inquiry"]


class Inquiry:
    """One question, which stands in the line of replies as any other."""

    expects: ClassVar[PacketType] = PacketType.STATUS_RES

    def __init__(self, asked: bytes, heard_of: Callable[[bytes, bool], None]) -> None:
        self.asked = asked
        self._heard_of = heard_of

    def on_reply(self, arguments: list[bytes]) -> None:
        """Handle STATUS_RES."""
        self._heard_of(self.asked, arguments[1] != b"0")

    def on_refused(self, code: bytes, text: bytes) -> None:
        """Handle ERROR."""
        self.on_ignored()

    def on_ignored(self) -> None:
        """Handle that there will be no reply."""
        # A server that does not know the question tells nothing about the job.
        self._heard_of(self.asked, True)


class Inquiries:
    """
    The questions of one connection after its silent jobs.

    Args:
        jobs: Those whose results are to come, by handle. One that is lost is taken out.
        send: Asks a question.
    """

    __slots__ = ("_jobs", "_send", "_silent", "_unanswered")

    def __init__(
        self, jobs: dict[bytes, JobHandler | CoalescedJobs], send: Callable[[QueryHandler, PacketType], None]
    ) -> None:
        self._jobs = jobs
        self._send = send
        self._silent = SilentJobs()
        self._unanswered = 0

    def heard(self, handle: bytes) -> None:
        """Take note that a job is not silent."""
        self._silent.heard(handle)

    def turn(self, *, at_most: int, at_once: int) -> None:
        """Ask after those that were silent since the call before the last one, so many before the next call."""
        self._silent.turn(self._jobs, at_most)
        for _ in range(at_once - self._unanswered):  # a slow job server may still owe answers of the turn before
            if not self._ask_next():
                break

    def stop(self) -> None:
        """Forget which jobs were there, and heard of, before."""
        self._silent = SilentJobs()

    def _ask_next(self) -> bool:
        handle = self._silent.next(self._jobs)
        if handle is not None:
            self._unanswered += 1
            self._send(Inquiry(handle, self._heard_of), PacketType.GET_STATUS)
        return handle is not None

    def _heard_of(self, handle: bytes, known: bool) -> None:
        self._unanswered -= 1
        found = self._jobs.pop(handle, None)
        if found is not None and known:
            self._jobs[handle] = found  # now the last in order, so that all have their turn where many are silent
        elif found is not None:
            for handler in found if isinstance(found, CoalescedJobs) else (found,):
                handler.on_unknown(handle)
        self._ask_next()
