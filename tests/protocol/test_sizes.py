"""How the protocol core handles arguments and packets over their limits."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import JobTooLargeError, RemoteProtocolError
from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import (
    HEADER,
    LIMITS,
    OVERSIZE,
    PACKETS,
    REQUEST,
    RESPONSE,
    PacketType,
    describe,
    encode,
)
from geartrain.protocol.worker import Assignment, WorkerProtocol
from tests.support.broker import World, check_books
from tests.support.recording_handlers import QueryRecord, Record

P = PacketType
LIMIT = 2000
SUBMITS = [kind for kind, spec in PACKETS.items() if spec.arguments[-1:] == ("workload",) and spec.to_server]
FOREGROUND = (P.SUBMIT_JOB, P.SUBMIT_JOB_HIGH, P.SUBMIT_JOB_LOW, P.SUBMIT_REDUCE_JOB)
TERMINAL = (P.WORK_COMPLETE, P.WORK_EXCEPTION)
UPDATES = (P.WORK_DATA, P.WORK_WARNING, P.WORK_STATUS)
ASSIGNS = (P.JOB_ASSIGN, P.JOB_ASSIGN_UNIQ)


def from_server(kind: PacketType, *arguments: bytes) -> bytes:
    return encode(kind, *arguments, magic=RESPONSE)


def arguments_of(kind: PacketType, last: bytes) -> list[bytes]:
    """Valid arguments of a packet, the last one as given."""
    values = {"handle": b"H:test:1", "function": b"f", "unique": b"", "reducer": b"", "epoch": b"0", "numerator": b"1"}
    return [*(values.get(name, b"") for name in PACKETS[kind].arguments[:-1]), last]


# Decoder


@given(
    st.lists(
        st.tuples(
            st.sampled_from([P.WORK_COMPLETE, P.WORK_STATUS, P.WORK_FAIL]),
            st.sampled_from([b"", b"h\0", b"h\0s\0", b"hhhhhhhhhhhhhh\0", b"x" * 40]),
            st.integers(0, 60),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 30), max_size=60),
)
def test_skipping_does_not_depend_on_how_the_bytes_arrive(
    drawn: list[tuple[PacketType, bytes, int]], cuts: list[int]
) -> None:
    """Packets of all sizes around the limit of 30, with and without the earlier arguments."""
    stream = b"".join(HEADER.pack(RESPONSE, kind, len(head) + size) + head + b"x" * size for kind, head, size in drawn)

    def runs(*chunks: bytes) -> tuple[list[tuple[int, bytes]], str]:
        decoder = Decoder(RESPONSE, 30, limits={P.WORK_FAIL: 50}, skipped={P.WORK_COMPLETE, P.WORK_STATUS})
        packets = [(kind, body) for chunk in chunks for kind, bodies in decoder.feed(chunk) for body in bodies]
        assert decoder.failure or (decoder.held, decoder.arrived) == (0, 0)
        return packets, str(decoder.failure)

    pieces = []
    rest = stream
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert runs(*pieces, rest) == runs(stream)
    for kind, body in runs(stream)[0]:
        *_, last = body.split(b"\0", len(PACKETS[P(kind if kind > 0 else OVERSIZE - kind)].arguments) - 1)
        assert len(last) <= 50 if kind == P.WORK_FAIL else len(last) <= 30 if kind > 0 else int(last) > 30


def test_only_the_last_argument_counts() -> None:
    decoder = Decoder(RESPONSE, 10, skipped={P.WORK_COMPLETE})
    longest = b"H" * 500 + b"\0" + b"x" * 10
    stream = b"".join(HEADER.pack(RESPONSE, P.WORK_COMPLETE, len(body)) + body for body in (longest, longest + b"x"))
    assert decoder.feed(stream) == [
        (P.WORK_COMPLETE, [longest]),
        (OVERSIZE - P.WORK_COMPLETE, [b"H" * 500 + b"\x0011"]),
    ]


def test_the_rest_of_a_skipped_packet_is_not_kept_but_counts_as_arrived() -> None:
    size = 32 * 1024 * 1024
    decoder = Decoder(RESPONSE, 1024 * 1024, skipped={P.WORK_DATA})
    tracemalloc.start()
    try:
        runs = decoder.feed(HEADER.pack(RESPONSE, P.WORK_DATA, size) + b"H:1\0" + bytes(10_000))
        piece = bytes(65536)
        for number in range(1, 11):
            assert decoder.feed(piece) == []
            assert decoder.arrived == HEADER.size + 4 + 10_000 + number * 65536
            assert decoder.held == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert runs == [(OVERSIZE - P.WORK_DATA, [b"H:1\0%d" % (size - 4)])]
    assert peak < 4 * 65536


@pytest.mark.parametrize("kind", [P.ECHO_RES, P.NOOP, P.STATUS_RES, 4711])
def test_an_oversize_packet_without_a_job_is_rejected_by_its_header(kind: int) -> None:
    decoder = Decoder(RESPONSE, LIMIT, skipped={P.WORK_DATA})
    assert decoder.feed(HEADER.pack(RESPONSE, kind, LIMIT + 1)) == []
    assert f"announced {LIMIT + 1} bytes" in str(decoder.failure)


def test_more_than_64_times_the_limit_is_rejected_by_its_header() -> None:
    decoder = Decoder(RESPONSE, LIMIT, skipped={P.WORK_DATA})
    decoder.feed(HEADER.pack(RESPONSE, P.WORK_DATA, 64 * LIMIT))
    assert decoder.failure is None
    decoder = Decoder(RESPONSE, LIMIT, skipped={P.WORK_DATA})
    decoder.feed(HEADER.pack(RESPONSE, P.WORK_DATA, 64 * LIMIT + 1))
    assert f"announced {64 * LIMIT + 1} bytes" in str(decoder.failure)


def test_a_skipped_packet_is_described_with_its_length() -> None:
    assert describe(OVERSIZE - P.WORK_COMPLETE, b"H:1\x0070000000") == "WORK_COMPLETE H:1 [70000000 bytes, skipped]"


# Arguments with a separate limit


def client(**options: int) -> ClientProtocol:
    return ClientProtocol(lambda _: None, lambda: None, **options)


def waiting_for(kind: PacketType, argument: bytes) -> ClientProtocol:
    """Return a client that expects a packet of this type next."""
    protocol = client()
    if kind is P.JOB_CREATED or kind is P.ERROR:
        protocol.send_submission(Record(), P.SUBMIT_JOB, b"f\0\0", b"")
    elif kind in (P.STATUS_RES, P.STATUS_RES_UNIQUE, P.OPTION_RES):
        protocol.send_query(
            QueryRecord(argument, kind),
            {P.STATUS_RES: P.GET_STATUS, P.STATUS_RES_UNIQUE: P.GET_STATUS_UNIQUE, P.OPTION_RES: P.OPTION_REQ}[kind],
        )
    return protocol


TO_A_CLIENT = [
    (kind, name)
    for kind in (
        *(P.JOB_CREATED, P.ERROR, P.STATUS_RES, P.STATUS_RES_UNIQUE, P.OPTION_RES),
        *(P.WORK_COMPLETE, P.WORK_EXCEPTION, P.WORK_DATA, P.WORK_WARNING, P.WORK_STATUS, P.WORK_FAIL),
    )
    for name in PACKETS[kind].arguments
    if name in LIMITS
]


@pytest.mark.parametrize(("kind", "name"), TO_A_CLIENT)
def test_a_client_accepts_an_argument_up_to_its_limit(kind: PacketType, name: str) -> None:
    for size in (LIMITS[name], LIMITS[name] + 1):
        long = b"x" * size
        protocol = waiting_for(kind, long)
        protocol.receive_data(from_server(kind, *[long if n == name else b"0" for n in PACKETS[kind].arguments]))
        assert (protocol.failure is None) == (size == LIMITS[name]), f"{name} of {size} bytes: {protocol.failure}"


TO_A_WORKER = [(kind, name) for kind in (*ASSIGNS, P.ERROR) for name in PACKETS[kind].arguments if name in LIMITS]


@pytest.mark.parametrize(("kind", "name"), TO_A_WORKER)
def test_a_worker_accepts_an_argument_up_to_its_limit(kind: PacketType, name: str) -> None:
    for size in (LIMITS[name], LIMITS[name] + 1):
        long = b"x" * size
        protocol = WorkerProtocol(lambda _: None)
        protocol.send_can_do(b"f")
        protocol.send_can_do(long)
        protocol.send_grab()
        arguments = {"function": b"f", name: long}
        protocol.receive_data(from_server(kind, *[arguments.get(n, b"0") for n in PACKETS[kind].arguments]), 0.0)
        assert (protocol.failure is None) == (size == LIMITS[name]), f"{name} of {size} bytes: {protocol.failure}"


@pytest.mark.parametrize("kind", [P.JOB_CREATED, P.ERROR, P.OPTION_RES])
def test_a_packet_of_short_arguments_is_rejected_by_its_header(kind: PacketType) -> None:
    protocol = client()
    protocol.receive_data(HEADER.pack(RESPONSE, kind, 1024 * 1024))
    assert isinstance(protocol.failure, RemoteProtocolError)


def test_bytes_after_the_handle_of_work_fail_are_ignored() -> None:
    protocol, record = client(max_size=1024), Record()
    protocol.send_submission(record, P.SUBMIT_JOB, b"f\0\0", b"")
    protocol.receive_data(from_server(P.JOB_CREATED, b"H:1") + from_server(P.WORK_FAIL, b"H:1\0" + b"x" * 8000))
    assert record.events == [("created", b"H:1"), ("failed",)]
    assert protocol.failure is None


# A client's results


def created(protocol: ClientProtocol, handle: bytes = b"H:test:1", *, merges: bool = False) -> Record:
    record = Record(merges=merges)
    protocol.send_submission(record, P.SUBMIT_JOB, b"f\0u\0" if merges else b"f\0\0", b"")
    protocol.receive_data(from_server(P.JOB_CREATED, handle))
    record.events.clear()
    return record


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
@pytest.mark.parametrize("step", [1, 100, 1_000_000])
def test_a_result_or_update_over_the_limit_ends_only_its_job(kind: PacketType, step: int) -> None:
    protocol = client(max_size=LIMIT)
    job, other = created(protocol), created(protocol, b"H:test:2")
    stream = from_server(kind, *arguments_of(kind, bytes(LIMIT + 1)))
    stream += from_server(P.WORK_COMPLETE, b"H:test:2", b"x" * LIMIT)
    if kind in UPDATES:  # later packets of the first job are ignored
        stream += from_server(P.WORK_DATA, b"H:test:1", b"more") + from_server(P.WORK_COMPLETE, b"H:test:1", b"late")
    for begin in range(0, len(stream), step):
        protocol.receive_data(stream[begin : begin + step])
    assert job.events == [("too large", kind, LIMIT + 1)]
    assert other.events == [("completed", b"x" * LIMIT)]
    assert protocol.failure is None
    assert protocol.is_idle
    assert protocol.late_packets == (2 if kind in UPDATES else 0)


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_each_merged_submission_gets_its_own_end(kind: PacketType) -> None:
    protocol = client(max_size=LIMIT)
    one, two = created(protocol, merges=True), created(protocol, merges=True)
    protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT + 1))))
    assert (one.events, two.events) == ([("too large", kind, LIMIT + 1)], [])
    protocol.receive_data(from_server(kind, *arguments_of(kind, b"5")))
    assert one.ends == 1
    if kind in UPDATES:
        assert two.ends == 0
        protocol.receive_data(from_server(P.WORK_COMPLETE, b"H:test:1", b"x") * 2)
    assert (one.ends, two.ends) == (1, 1)
    assert protocol.is_idle


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_a_later_submission_merged_with_a_job_that_was_too_large_gets_the_right_copy(kind: PacketType) -> None:
    protocol = client(max_size=LIMIT)
    one = created(protocol, merges=True)
    protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT + 1))))
    two = created(protocol, merges=True)
    copies = 2 if kind in UPDATES else 1
    protocol.receive_data(from_server(P.WORK_COMPLETE, b"H:test:1", b"x") * copies)
    assert one.events == [("too large", kind, LIMIT + 1)]
    assert two.events == [("completed", b"x")]
    assert protocol.is_idle


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_one_job_of_a_batch_is_ended(kind: PacketType) -> None:
    protocol, many = client(max_size=LIMIT), Record()
    protocol.send_batch(many, P.SUBMIT_JOB, b"f\0\0", [b"1", b"2"])
    protocol.receive_data(from_server(P.JOB_CREATED, b"H:test:1") + from_server(P.JOB_CREATED, b"H:test:2"))
    protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT + 1))))
    assert many.events[2:] == [("too large", kind, LIMIT + 1)]
    assert many.events.count(("created", b"H:test:2")) == 1
    protocol.receive_data(from_server(P.WORK_COMPLETE, b"H:test:2", b"x"))
    assert many.events[3:] == [("completed", b"x")]
    assert protocol.is_idle


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_an_oversize_packet_for_a_forgotten_job_is_only_counted(kind: PacketType) -> None:
    protocol = client(max_size=LIMIT)
    job = created(protocol)
    protocol.forget(job)
    protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT + 1))))
    assert (job.events, protocol.late_packets, protocol.failure) == ([], 1, None)


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_an_oversize_packet_with_an_endless_handle_fails_the_connection(kind: PacketType) -> None:
    protocol = client(max_size=LIMIT)
    protocol.receive_data(HEADER.pack(RESPONSE, kind, 64 * LIMIT) + b"x" * 10_000)
    assert "a handle of more than 1024 bytes" in str(protocol.failure)


# A worker's jobs


class GrabbingWorker:
    """A worker's protocol with a pending grab."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refused: list[tuple[Assignment, str]] = []
        self.protocol = WorkerProtocol(
            self.sent.append,
            max_size=LIMIT,
            on_oversize=lambda job, error: self.refused.append((job, str(error))),
        )
        self.protocol.send_can_do(b"f")
        self.grab()

    def grab(self) -> None:
        self.protocol.send_grab()
        self.sent.clear()

    def packets(self) -> list[tuple[int, bytes]]:
        found = [(kind, body) for kind, bodies in Decoder(REQUEST).feed(b"".join(self.sent)) for body in bodies]
        self.sent.clear()
        return found


@pytest.mark.parametrize("kind", ASSIGNS)
def test_a_job_whose_workload_is_too_large_ends_once_and_the_next_is_assigned(kind: PacketType) -> None:
    worker = GrabbingWorker()
    assert worker.protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT + 1))), 0.0) == []
    text = f"workload of {LIMIT + 1} bytes exceeds max_packet_size {LIMIT}"
    assert worker.packets() == [(P.WORK_EXCEPTION, b"H:test:1\0JobTooLargeError: " + text.encode())]
    assert worker.refused == [((b"H:test:1", b"f", b"", b""), text)]
    assert not worker.protocol.held
    assert worker.protocol.grabs == 0
    assert worker.protocol.may_grab
    worker.grab()
    (job,) = worker.protocol.receive_data(from_server(kind, *arguments_of(kind, bytes(LIMIT))), 0.0)
    assert len(job.workload) == LIMIT
    assert worker.protocol.failure is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEADER.pack(RESPONSE, P.JOB_ASSIGN, 60 * LIMIT) + b"H" * 9000, "JOB_ASSIGN needs 3 arguments"),
        (from_server(P.JOB_ASSIGN, b"H:1", b"other", bytes(LIMIT + 1)), "a job was assigned for 'other'"),
        (from_server(P.JOB_ASSIGN, b"H" * 1025, b"f", bytes(LIMIT + 1)), "a handle of 1025 bytes"),
        (from_server(P.JOB_ASSIGN, b"H:1", b"f", bytes(LIMIT + 1)) * 2, "JOB_ASSIGN"),
    ],
)
def test_an_oversize_assignment_is_checked_like_any_other(data: bytes, reason: str) -> None:
    worker = GrabbingWorker()
    assert worker.protocol.receive_data(data, 0.0) == []
    assert reason in str(worker.protocol.failure)


def test_a_result_or_update_over_the_limit_is_not_sent_and_the_job_can_still_be_ended() -> None:
    worker = GrabbingWorker()
    (job,) = worker.protocol.receive_data(from_server(P.JOB_ASSIGN, b"H:test:1", b"f", b""), 0.0)
    with pytest.raises(JobTooLargeError, match="result of 2001 bytes exceeds max_packet_size 2000") as caught:
        worker.protocol.send_complete(job, bytes(LIMIT + 1))
    assert (caught.value.size, caught.value.limit) == (LIMIT + 1, LIMIT)
    for kind in UPDATES:
        with pytest.raises(JobTooLargeError, match="update of 2001 bytes exceeds max_packet_size 2000"):
            worker.protocol.send_update(job, kind, bytes(LIMIT + 1))
    assert worker.packets() == []
    assert worker.protocol.send_update(job, P.WORK_DATA, bytes(LIMIT))
    assert worker.protocol.send_complete(job, bytes(LIMIT))
    assert [kind for kind, _ in worker.packets()] == [P.WORK_DATA, P.WORK_COMPLETE]


def test_an_exception_over_the_limit_is_replaced_by_its_length() -> None:
    worker = GrabbingWorker()
    (job,) = worker.protocol.receive_data(from_server(P.JOB_ASSIGN, b"H:test:1", b"f", b""), 0.0)
    assert worker.protocol.send_exception(job, bytes(LIMIT + 1))
    text = b"JobTooLargeError: exception of 2001 bytes exceeds max_packet_size 2000"
    assert worker.packets() == [(P.WORK_EXCEPTION, b"H:test:1\0" + text)]


# A job server's peers


@pytest.mark.parametrize("kind", SUBMITS)
def test_a_submission_over_the_limit_is_answered_with_an_error_in_order(kind: PacketType) -> None:
    world = World(max_packet_size=LIMIT)
    peer = world.peer()
    peer.send(P.ECHO_REQ, b"before")
    peer.send(kind, *arguments_of(kind, bytes(LIMIT + 1)))
    peer.send(P.ECHO_REQ, b"after")
    error = (P.ERROR, b"ARGUMENT_TOO_LARGE\0Workload exceeds max_packet_size")
    if kind is P.SUBMIT_JOB_SCHED:
        assert peer.inside.failure is not None  # the server does not support it
        return
    assert peer.packets() == [(P.ECHO_RES, b"before"), error, (P.ECHO_RES, b"after")]
    assert not world.broker.queue.jobs
    peer.send(kind, *arguments_of(kind, bytes(LIMIT)))
    assert peer.kinds() == [P.JOB_CREATED]
    check_books(world)


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
@pytest.mark.parametrize("submit", [P.SUBMIT_JOB, P.SUBMIT_JOB_BG])
def test_a_job_whose_result_is_too_large_fails_and_is_not_assigned_again(kind: PacketType, submit: PacketType) -> None:
    world = World(max_packet_size=LIMIT)
    client, worker = world.peer(), world.peer()
    handle = client.submit(b"f", kind=submit)
    worker.send(P.CAN_DO, b"f")
    assert worker.grab() == handle
    names = PACKETS[kind].arguments
    worker.send(kind, handle, *[b"1" for _ in names[1:-1]], bytes(LIMIT + 1))
    assert client.packets() == ([(P.WORK_FAIL, handle)] if submit is P.SUBMIT_JOB else [])
    assert worker.packets() == []
    assert worker.grab() is None
    worker.leave()
    assert not world.broker.queue.jobs
    check_books(world)


@pytest.mark.parametrize("kind", [*TERMINAL, *UPDATES])
def test_an_oversize_result_of_an_unknown_job_is_answered_like_a_short_one(kind: PacketType) -> None:
    world = World(max_packet_size=LIMIT)
    peer = world.peer()
    peer.send(kind, *arguments_of(kind, b"1"))
    short = peer.packets()
    peer.send(kind, *arguments_of(kind, bytes(LIMIT + 1)))
    assert peer.packets() == short
    assert short[0][0] is P.ERROR


def test_a_job_server_keeps_nothing_of_a_skipped_packet() -> None:
    world = World(max_packet_size=LIMIT)
    peer = world.peer()
    peer.feed(HEADER.pack(REQUEST, P.SUBMIT_JOB, 60 * LIMIT) + b"f\0\0")
    for _ in range(59):
        peer.feed(bytes(LIMIT))
        assert peer.inside.decoder.held <= 8192 + HEADER.size
    assert peer.inside.decoder.held == 0
    assert peer.inside.pending_size == 0


def test_a_job_server_forwards_only_the_handle_and_a_nul_of_work_fail() -> None:
    world = World()
    client, worker = world.peer(), world.peer()
    handle = client.submit(b"f")
    worker.send(P.CAN_DO, b"f")
    worker.grab()
    worker.send(P.WORK_FAIL, handle + b"\0" + b"x" * 100_000)
    assert client.packets() == [(P.WORK_FAIL, handle + b"\0")]
