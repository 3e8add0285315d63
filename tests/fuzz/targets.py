"""
The fuzz targets: for each part that reads bytes from the network, a function that takes any bytes and raises on errors.

They do not need atheris: `make fuzz` runs them under it, `make test` runs them over seeds and regressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol import text
from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import HEADER, OVERSIZE, PACKETS, REQUEST, RESPONSE, PacketType, describe
from geartrain.protocol.results import OVERSIZE_RESULTS
from geartrain.protocol.server import dispatch
from geartrain.protocol.server.peer import OVERSIZE_REQUESTS
from geartrain.protocol.text import TextProtocol
from geartrain.protocol.worker import Assignment, WorkerProtocol
from geartrain.protocol.worker_state import WorkerState
from tests.support.broker import TestPeer, World, check_books
from tests.support.recording_handlers import QueryRecord, Record, close_protocol

Target = Callable[[bytes], None]
Step = tuple[int, bytes]

MAX_SIZE: Final = 200  # of the last argument of a packet; small, so that inputs exceed it
MAX_HELD: Final = HEADER.size + 8192 + MAX_SIZE  # the arguments before the last may take 8192 bytes


def steps(data: bytes) -> Iterator[Step]:
    """Read a script. Each step is a byte for the action, a byte for a length, and that many bytes."""
    position = 0
    while position < len(data):
        size = data[position + 1] if position + 1 < len(data) else 0
        yield data[position], data[position + 2 : position + 2 + size]
        position += 2 + size


def script(*parts: Step) -> bytes:
    """Write a script that :func:`steps` reads; bytes that are too long for one step become several."""
    written = b""
    for what, data in parts:
        for start in range(0, max(len(data), 1), 255):
            piece = data[start : start + 255]
            written += bytes((what, len(piece))) + piece
    return written


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Split bytes into pieces."""
    return (data[start : start + size] for start in range(0, len(data), size))


def check_failure(failure: RemoteProtocolError | None) -> None:
    """Check that a failure, if there is one, is a protocol error with a message."""
    assert failure is None or (type(failure) is RemoteProtocolError and str(failure))


# Decoders. The first byte is the length of the pieces, minus one, into which the rest is split.


def decode(data: bytes, magic: int, *, lines: bool) -> None:
    """Check that decoding does not depend on how the bytes arrive, and buffers no more than the limit."""
    skipped = OVERSIZE_REQUESTS if magic == REQUEST else OVERSIZE_RESULTS
    whole, cut = (Decoder(magic, MAX_SIZE, text=lines, skipped=skipped) for _ in range(2))
    expected = [(kind, body) for kind, bodies in whole.feed(data[1:]) for body in bodies]
    found = []
    for piece in pieces(data[1:], max(data[:1], default=0) + 1):
        found += [(kind, body) for kind, bodies in cut.feed(piece) for body in bodies]
        if cut.failure is None:
            assert cut.held < MAX_HELD
    assert found == expected
    assert (cut.failure is None) == (whole.failure is None)
    assert whole.failure is not None or (cut.held, cut.arrived) == (whole.held, whole.arrived)
    check_failure(whole.failure)
    for kind, body in found:
        check_size(kind, body)
        describe(kind, body)


def check_size(kind: int, body: bytes) -> None:
    """Check that no argument exceeds its limit, and that only oversize packets were skipped."""
    names = PACKETS[PacketType(kind)].arguments if kind in PACKETS else ()
    if kind > 0:
        assert len(body.split(b"\0", max(len(names) - 1, 0))[-1]) <= MAX_SIZE
    elif kind > OVERSIZE:  # a line of text, or a packet of the other direction
        assert len(body) <= 8191
    else:
        *_, size = body.split(b"\0", len(PACKETS[PacketType(OVERSIZE - kind)].arguments) - 1)
        assert int(size) > MAX_SIZE


def requests(data: bytes) -> None:
    """Decode what a job server receives from peers that send no text."""
    decode(data, REQUEST, lines=False)


def responses(data: bytes) -> None:
    """Decode what a job server sends."""
    decode(data, RESPONSE, lines=False)


def requests_and_lines(data: bytes) -> None:
    """Decode what a job server receives, text and packets mixed."""
    decode(data, REQUEST, lines=True)


# The client.


class ClientRun:
    """A client protocol that runs a script, with handlers that record their calls."""

    QUERIES: Final = (
        (b"H:1", PacketType.STATUS_RES, PacketType.GET_STATUS),
        (b"u", PacketType.STATUS_RES_UNIQUE, PacketType.GET_STATUS_UNIQUE),
        (b"echo", PacketType.ECHO_RES, PacketType.ECHO_REQ),
        (b"exceptions", PacketType.OPTION_RES, PacketType.OPTION_REQ),
    )

    def __init__(self, size: int) -> None:
        self.sent: list[bytes] = []
        self.protocol = ClientProtocol(self.sent.append, lambda: None, max_size=MAX_SIZE)
        self.size = size
        self.jobs: list[Record] = []
        self.forgotten: set[Record] = set()
        self.queries: list[QueryRecord] = []

    def step(self, what: int, data: bytes) -> None:
        """Do one step: mostly receive bytes, otherwise submit, query, forget a job, or probe stale jobs."""
        choice = what >> 3
        if what % 8 < 4:
            for piece in pieces(data, self.size):
                self.protocol.receive_data(piece)
        elif self.protocol.failure is not None:
            return  # the layer above has closed the connection
        elif what % 8 == 4:
            self.jobs.append(Record(background=choice % 4 == 3, merges=bool(choice % 2)))
            self.protocol.send_submission(self.jobs[-1], PacketType.SUBMIT_JOB, b"f\0u\0", data)
        elif what % 8 == 5:
            argument, expects, kind = self.QUERIES[choice % len(self.QUERIES)]
            self.queries.append(QueryRecord(argument, expects))
            self.protocol.send_query(self.queries[-1], kind)
        elif what % 8 == 6:
            self.forget(choice)
        else:
            self.protocol.probe_stale_jobs(max_probes=3, max_open=2)

    def forget(self, choice: int) -> None:
        """Cancel one of the jobs that have not ended."""
        live = [job for job in self.jobs if not job.ends and job not in self.forgotten]
        live = [job for job in live if not (job.background and isinstance(job.ticket, bytes))]
        if live:
            job = live[choice % len(live)]
            self.forgotten.add(job)
            self.protocol.forget(job)

    def finish(self) -> list[object]:
        """Check that every submission has ended once; return the calls of all handlers."""
        protocol = self.protocol
        check_failure(protocol.failure)
        assert protocol.failure is not None or protocol.held < MAX_HELD
        left = close_protocol(protocol)
        assert protocol.is_idle
        for job in self.jobs:
            created_only = job.background and any(event[0] == "created" for event in job.events)
            assert job.ends + left.count(job) + (job in self.forgotten) + created_only == 1
        return [
            [job.events for job in self.jobs],
            [query.events for query in self.queries],
            (protocol.late_packets, protocol.unknown, protocol.failure is None),
            b"".join(self.sent),
        ]


def client(data: bytes) -> None:
    """Send any bytes from a job server to a client: the calls do not depend on how the bytes arrive."""
    calls = []
    for size in (256, 1, 7):
        run = ClientRun(size)
        for step in steps(data):
            run.step(*step)
        calls.append(run.finish())
    assert calls[0] == calls[1] == calls[2]


# The worker.


def worker_protocol(sent: list[bytes], refused: list[Assignment]) -> WorkerProtocol:
    """Return a protocol that can do ``f`` and ``g``; jobs whose workload is too large are added to ``refused``."""
    worker = WorkerProtocol(
        sent.append,
        max_size=MAX_SIZE,
        on_oversize=lambda job, error: refused.append(job),
        on_error=lambda code, text: None,
    )
    worker.send_can_do(b"f")
    worker.send_can_do(b"g", timeout_ms=1000)
    return worker


def act(worker: WorkerProtocol, what: int, jobs: list[Assignment], now: float) -> None:
    """Do an action, if a session may do it in this state."""
    choice = what >> 3
    if what % 8 == 4 and worker.may_grab:
        worker.send_grab()
    elif what % 8 == 5 and worker.may_sleep:
        worker.send_pre_sleep(now)
    elif what % 8 == 6 and worker.state is not WorkerState.CLOSED:
        worker.send_probe()
        worker.request_grab()
    elif what % 8 == 7 and jobs:
        job = jobs[choice % len(jobs)]
        send = (worker.send_complete, worker.send_exception)[choice % 2]
        held = worker.held.get(job.handle) is job
        assert send(job, b"") == held
        assert worker.held.get(job.handle) is not job


def worker(data: bytes) -> None:
    """Send any bytes from a job server to a worker: it never holds more jobs than it has grabbed."""
    sent: list[bytes] = []
    jobs, refused = list[Assignment](), list[Assignment]()
    protocol = worker_protocol(sent, refused)
    grabs = 0
    for now, (what, received) in enumerate(steps(data)):
        if what % 8 < 4:
            jobs += protocol.receive_data(received, float(now))
        else:
            before = protocol.grabs
            act(protocol, what, jobs, float(now))
            grabs += protocol.grabs - before
        assert protocol.grabs >= 0
        assert (protocol.grabs > 0) == (protocol.state is WorkerState.GRABBING)
        assert (protocol.failure is not None) == (protocol.state is WorkerState.CLOSED)
        assert len(jobs) + len(refused) + protocol.grabs <= grabs
        assert protocol.ended + len(protocol.held) <= len(jobs) + len(refused)
    check_failure(protocol.failure)
    requests_sent = Decoder(REQUEST)
    requests_sent.feed(b"".join(sent))
    assert requests_sent.failure is None
    assert requests_sent.held == 0


def worker_in_pieces(data: bytes) -> None:
    """Check that the result of what a worker receives after three grabs does not depend on how the bytes arrive."""
    ends = []
    for size in (len(data) + 1, 1, 7):
        refused: list[Assignment] = []
        protocol = worker_protocol([], refused)
        jobs = []
        for _ in range(3):
            protocol.send_grab()
        protocol.send_probe()
        for piece in pieces(data, size):
            jobs += protocol.receive_data(piece, 0.0)
        check_failure(protocol.failure)
        counts = (protocol.grabs, protocol.probes, protocol.errors, protocol.unknown, protocol.state)
        # Jobs that arrive in one piece with an error are dropped with it.
        ends.append((protocol.failure is None, counts, None if protocol.failure else (jobs, refused, protocol.held)))
    assert ends[0] == ends[1] == ends[2]


# The text protocol.

COMMANDS: Final[Sequence[text.Command[Any]]] = (
    text.STATUS,
    text.PRIORITY_STATUS,
    text.WORKERS,
    text.SHOW_JOBS,
    text.SHOW_UNIQUE_JOBS,
    text.VERSION,
    text.GETPID,
    text.VERBOSE,
    text.MAXQUEUE,
    text.SHUTDOWN,
)


def answers(data: bytes) -> None:
    """Send any answer from a job server to two commands, which the first byte chooses."""
    first = data[0] if data else 0
    answers_by_size: list[list[Any]] = []
    for size in (len(data) + 1, 1, 5):
        protocol = TextProtocol(MAX_SIZE * 10)
        answers: list[Any] = []
        for number in (first % 10, first // 10 % 10):
            protocol.send_command(COMMANDS[number], on_reply=answers.append)
        for piece in pieces(data[1:], size):
            protocol.receive_data(piece)
            assert protocol.failure is not None or protocol.unfinished <= MAX_SIZE * 10 + text.ROW_COST
        check_failure(protocol.failure)
        assert protocol.pending_count == 2 - len(answers)
        answers_by_size.append(answers)
    # How many answers precede an error depends on the pieces; their contents do not.
    most = max(answers_by_size, key=len)
    assert all(some == most[: len(some)] for some in answers_by_size)


def commands(data: bytes) -> None:
    """Send any lines to a job server with functions and jobs: each is answered with whole lines."""
    world = World(max_queue_size=20_000)
    peer, other = world.peer(), world.peer()
    other.feed(b"create function f\r\ncreate function g\n")
    other.send(PacketType.CAN_DO, b"f")
    other.send(PacketType.SUBMIT_JOB, b"f", b"u", b"w")
    other.send(PacketType.SUBMIT_JOB_EPOCH, b"g", b"v", b"2000000", b"w")
    other.send(PacketType.GRAB_JOB)
    for line in data.split(b"\n"):
        if peer.inside.failure is not None or line[:1] == b"\0":
            break
        peer.feed(line + b"\n")
        answer = peer.received()
        assert peer.inside.failure is not None or answer.endswith(b"\n")
        check_books(world)
    check_failure(peer.inside.failure)


# The job server.


class BrokerRun:
    """A broker with three peers that runs a script, called as by :class:`geartrain.JobServer`."""

    PEERS: Final = 3
    QUEUE: Final = 20_000
    BACKLOG: Final = 10_000

    def __init__(self) -> None:
        self.world = World(max_packet_size=MAX_SIZE, max_queue_size=self.QUEUE, max_backlog=self.BACKLOG, job_retries=2)
        self.peers = [self.world.peer() for _ in range(self.PEERS)]

    def step(self, what: int, data: bytes) -> None:
        """Do one step: mostly receive bytes from a peer, otherwise disconnect one, or let time pass."""
        number = (what >> 3) % self.PEERS
        if what % 8 < 6:
            self.peers[number].feed(data)
        elif what % 8 == 6:
            self.replace(number)
        else:
            self.world.pass_time(float(what >> 3))
        self.deliver()
        check_books(self.world)
        assert self.world.broker.queue.size <= self.QUEUE + 5_000  # one more job and function, at most

    def deliver(self) -> None:
        """Take what is to be sent, replace peers that have failed, and resume pending requests."""
        for number, peer in enumerate(self.peers):
            while not self.failed(peer):
                assert peer.inside.outgoing_size <= self.BACKLOG
                peer.inside.take_outgoing()
                if not peer.inside.pending_requests:
                    break
                dispatch.resume(self.world.broker, peer.inside, self.world.now)
            if self.failed(peer):
                self.replace(number)

    def failed(self, peer: TestPeer) -> bool:
        """Whether a peer has broken the protocol."""
        check_failure(peer.inside.failure)
        return peer.inside.failure is not None

    def replace(self, number: int) -> None:
        """Disconnect a peer, and connect another in its place."""
        self.peers[number].leave()
        self.peers[number] = self.world.peer()

    def finish(self) -> None:
        """Check that disconnected peers leave nothing but background jobs."""
        for number in range(self.PEERS):
            self.replace(number)
        check_books(self.world)
        assert all(job.background for job in self.world.broker.queue.jobs.values())
        assert not any(function.workers for function in self.world.broker.queue.functions.values())


def broker(data: bytes) -> None:
    """Send any bytes from three peers to a job server: its data stays consistent, and its memory bounded."""
    run = BrokerRun()
    for step in steps(data):
        run.step(*step)
    run.finish()


TARGETS: Final[Mapping[str, Target]] = {
    "requests": requests,
    "responses": responses,
    "requests_and_lines": requests_and_lines,
    "client": client,
    "worker": worker,
    "worker_in_pieces": worker_in_pieces,
    "answers": answers,
    "commands": commands,
    "broker": broker,
}
