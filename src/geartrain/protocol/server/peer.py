"""The job server's state of one connection, which may be a client, a worker and an administrator at the same time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.decoder import TEXT_LINE, Decoder
from geartrain.protocol.packets import HEADER, REQUEST, RESPONSE, PacketType
from geartrain.protocol.server.job_queue import Function, ServerJob

__all__ = ["OVERSIZE_REQUESTS", "Ability", "Peer", "Trace", "Work"]

# A long operation, which yields after each step.
Work = Iterator[None]

# (peer, ">" sent or "<" received, packet type or TEXT_LINE, body)
Trace = Callable[["Peer", str, int, bytes], None]

# Requests whose last argument is skipped if it is too large: that fails one job. Any other request that is too large
# closes the connection.
OVERSIZE_REQUESTS: Final = frozenset(
    {
        PacketType.SUBMIT_JOB,
        PacketType.SUBMIT_JOB_BG,
        PacketType.SUBMIT_JOB_HIGH,
        PacketType.SUBMIT_JOB_HIGH_BG,
        PacketType.SUBMIT_JOB_LOW,
        PacketType.SUBMIT_JOB_LOW_BG,
        PacketType.SUBMIT_REDUCE_JOB,
        PacketType.SUBMIT_REDUCE_JOB_BACKGROUND,
        PacketType.SUBMIT_JOB_EPOCH,
        PacketType.WORK_STATUS,
        PacketType.WORK_DATA,
        PacketType.WORK_WARNING,
        PacketType.WORK_COMPLETE,
        PacketType.WORK_EXCEPTION,
    }
)

_RESPONSE_MAGIC: Final = RESPONSE
_HEADER_SIZE: Final = HEADER.size


class Ability(NamedTuple):
    """
    A function that a worker has registered.

    Attributes:
        function: The function.
        timeout: Seconds after which a job is taken from the worker; ``None`` for never.
    """

    function: Function
    timeout: float | None


class Peer:
    """
    The state of one connection.

    Attributes:
        number: Identifies it in the reply to ``workers``; the file descriptor, as in gearmand.
        host: Its IP address.
        outgoing: Chunks of bytes to be sent.
        outgoing_size: Their total length.
        awaited_jobs: The jobs whose result it waits for.
        abilities: The functions that it has registered, by name. Jobs are looked up from the last to the first.
        running_jobs: The jobs that it runs, by handle.
        asleep: Whether it has sent PRE_SLEEP and not been woken since.
        wants_exceptions: Whether it wants WORK_EXCEPTION; otherwise it gets WORK_FAIL instead.
        pending_requests: Requests that wait for its turn or for room in its output, including the unfinished one.
        unfinished_request: The rest of a long request.
        pending_size: The size in bytes of ``pending_requests``, including those that were run since it was last empty.
        failure: Why the connection is being closed.
    """

    __slots__ = (
        "_max_backlog",
        "_ready",
        "abilities",
        "asleep",
        "awaited_jobs",
        "client_id",
        "decoder",
        "failure",
        "host",
        "number",
        "outgoing",
        "outgoing_size",
        "pending_requests",
        "pending_size",
        "running_jobs",
        "trace",
        "unfinished_request",
        "wants_exceptions",
    )

    def __init__(
        self,
        number: int,
        host: str,
        ready: dict[Peer, None],
        *,
        max_packet_size: int,
        max_backlog: int,
    ) -> None:
        self.number: int = number
        self.host: str = host
        self.client_id: bytes = b"-"
        self.decoder: Decoder = Decoder(REQUEST, max_packet_size, text=True, skipped=OVERSIZE_REQUESTS)
        self.outgoing: list[bytes] = []
        self.outgoing_size: int = 0
        self.awaited_jobs: dict[ServerJob, None] = {}
        self.abilities: OrderedDict[bytes, Ability] = OrderedDict()
        self.running_jobs: dict[bytes, ServerJob] = {}
        self.asleep: bool = False
        self.wants_exceptions: bool = False
        self.pending_requests: deque[tuple[int, Iterator[bytes]]] = deque()
        self.pending_size: int = 0
        self.unfinished_request: Work | None = None
        self.failure: RemoteProtocolError | None = None
        self.trace: Trace | None = None
        self._ready = ready
        self._max_backlog = max_backlog

    def send(self, kind: int, head: bytes, data: bytes = b"") -> None:
        """
        Queue a packet whose body is ``head`` followed by ``data``.

        They are not joined here, so that a long workload is copied only once, when it is written.
        """
        # Called for every packet, so it avoids further calls.
        size = len(head) + len(data)
        outgoing = self.outgoing
        if not outgoing:
            self._ready[self] = None
        outgoing.append(HEADER.pack(_RESPONSE_MAGIC, kind, size) + head)
        if data:
            outgoing.append(data)
        self.outgoing_size += size + _HEADER_SIZE
        if self.outgoing_size > self._max_backlog:
            self._discard_output()
        if self.trace is not None:
            self.trace(self, ">", kind, head + data)

    def send_text(self, response: bytes) -> None:
        """Queue a response of the text protocol."""
        self._ready[self] = None
        self.outgoing.append(response)
        self.outgoing_size += len(response)
        if self.outgoing_size > self._max_backlog:
            self._discard_output()
        if self.trace is not None:
            self.trace(self, ">", TEXT_LINE, response)

    def take_outgoing(self) -> list[bytes]:
        """Return and clear the output."""
        outgoing, self.outgoing = self.outgoing, []
        self.outgoing_size = 0
        return outgoing

    def fail(self, reason: str) -> None:
        """Close the connection after the output has been sent. Only the first reason is kept."""
        if self.failure is None:
            self.failure = RemoteProtocolError(reason)
            self._ready[self] = None

    def disconnect(self) -> None:
        """Discard the pending requests and all output, now and later: the connection is lost."""
        self.pending_requests.clear()
        self._ready.pop(self, None)
        self._ready, self._max_backlog = {}, 0
        self.take_outgoing()

    def _discard_output(self) -> None:
        self.fail(f"the peer left more than {self._max_backlog} bytes unread")
        # Nothing may be sent after this gap: a result would lack data, or be taken for that of another job.
        self.take_outgoing()
        self._max_backlog = 0
