"""The submissions of one client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any
from weakref import WeakSet

from geartrain.compat.shared.event_queue import EventQueue
from geartrain.compat.shared.submission import Submission

__all__ = ["Submissions"]


class Submissions:
    """
    The submissions of one client that have not ended, by request.

    Args:
        events: The events of the client.
        queues: The connections by which each request may still be sent, the next one first.
    """

    def __init__(self, events: EventQueue, queues: MutableMapping[Any, deque[Any]]) -> None:
        self._events = events
        self._queues = queues
        self._submissions: dict[Any, Submission] = {}
        self._unaccepted: WeakSet[Any] = WeakSet()

    def start(self, submission: Submission, data: object) -> None:
        """Submit a request. Raises as :meth:`Submission.start`."""
        request = submission.request
        self._submissions[request] = submission
        try:
            submission.start(data)
        except BaseException:
            del self._submissions[request]
            raise
        request.connection_attempts += 1
        request.timed_out = False

    def is_outstanding(self, request: Any) -> bool:
        """Whether a submission of a request has not ended."""
        return request in self._submissions

    def take_unaccepted(self, requests: set[Any]) -> list[Any]:
        """Return which requests are to be sent again, once: no job server has accepted them."""
        if not self._unaccepted:
            return []
        taken = [request for request in list(self._unaccepted) if request in requests]
        self._unaccepted.difference_update(taken)
        return taken

    def is_unaccepted(self, request: Any) -> bool:
        """Whether a request is to be sent again."""
        return request in self._unaccepted

    def clear(self) -> None:
        """Forget all. Requests remain as they are."""
        self._submissions.clear()
        self._unaccepted.clear()

    # For submissions.

    def put_event(self, event: Callable[[], object], *, is_acceptance: bool = False) -> None:
        """Call something in the next thread that polls."""
        self._events.put(event, is_acceptance=is_acceptance)

    def is_current(self, submission: Submission) -> bool:
        """Whether the request has not been submitted again, nor the client shut down."""
        return self._submissions.get(submission.request) is submission

    def on_end(self, submission: Submission) -> None:
        """Forget a submission, unless the program's decoder has done that already."""
        if self.is_current(submission):
            del self._submissions[submission.request]

    def on_unaccepted(self, submission: Submission) -> None:
        """Have the request sent again."""
        self._unaccepted.add(submission.request)

    def on_unreachable(self, submission: Submission) -> None:
        """Have the request sent to the next job server. Nothing was sent to this one, so it was no attempt."""
        request = submission.request
        request.connection_attempts -= 1
        queue = self._queues.get(request)
        if queue and queue[0] is submission.connection:
            queue.popleft()
        self._unaccepted.add(request)
