"""One connection to a job server, as the job server sees it: a client, a worker, an administrator, or all of these."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.decoder import TEXT_LINE, Decoder
from geartrain.protocol.packets import HEADER, REQUEST, RESPONSE, PacketType
from geartrain.protocol.server.job_queue import Function, ServerJob

__all__ = ["OVERSIZE_REQUESTS", "Ability", "Peer", "Trace", "Work"]

# A long operation, which pauses after each of its steps.
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
    A function that a worker can do.

    Attributes:
        function: Which.
        timeout: Seconds after which a job is taken from it; ``None`` for never.
    """

    function: Function
    timeout: float | None


class Peer:
    """
    The state of one connection. It is the broker that acts on it.

    Attributes:
        number: Names it in ``workers``; the file descriptor, as in gearmand.
        host: Its address.
        outgoing: Pieces of bytes to be sent. :meth:`take_outgoing` hands them over.
        outgoing_size: Their length.
        awaited_jobs: The jobs whose end it is to be told of.
        abilities: What it can do, by name. A job is looked for from the last one to the first.
        running_jobs: The jobs that it runs, by handle.
        asleep: It has sent PRE_SLEEP, and nothing has woken it since.
        wants_exceptions: It wants WORK_EXCEPTION as it is.
        pending_requests: Requests that wait for its turn or for room in its output, including the unfinished one.
        unfinished_request: The rest of a request that takes long.
        pending_size: Bytes that these take, and those of them that were done already.
        failure: Why the connection is to be closed.
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
        JobQueue a packet whose body is ``head`` and ``data``.

        These are kept apart so that a long workload is copied once, when it is written, and not here.
        """
        # Every packet comes through here: no call is made that can be spared.
        size = len(head) + len(data)
        outgoing = self.outgoing
        if not outgoing:
            self._ready[self] = None
        outgoing.append(HEADER.pack(_RESPONSE_MAGIC, kind, size) + head)
        if data:
            outgoing.append(data)
        self.outgoing_size += size + _HEADER_SIZE
        if self.outgoing_size > self._max_backlog:
            self._overflow()
        if self.trace is not None:
            self.trace(self, ">", kind, head + data)

    def send_text(self, answer: bytes) -> None:
        """JobQueue an answer of the text protocol."""
        self._ready[self] = None
        self.outgoing.append(answer)
        self.outgoing_size += len(answer)
        if self.outgoing_size > self._max_backlog:
            self._overflow()
        if self.trace is not None:
            self.trace(self, ">", TEXT_LINE, answer)

    def take_outgoing(self) -> list[bytes]:
        """Hand over what is to be sent."""
        outgoing, self.outgoing = self.outgoing, []
        self.outgoing_size = 0
        return outgoing

    def fail(self, reason: str) -> None:
        """Have the connection closed, after what is queued was sent; the first reason counts."""
        if self.failure is None:
            self.failure = RemoteProtocolError(reason)
            self._ready[self] = None

    def disconnect(self) -> None:
        """Drop what is queued, and all that is sent from now on: the connection is gone."""
        self.pending_requests.clear()
        self._ready.pop(self, None)
        self._ready, self._max_backlog = {}, 0
        self.take_outgoing()

    def _overflow(self) -> None:
        self.fail(f"a peer let more than {self._max_backlog} bytes pile up unread")
        # Nothing may follow what is dropped here: a result would lack its data, or be that of another job.
        self.take_outgoing()
        self._max_backlog = 0
