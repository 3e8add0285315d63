"""The client's side of a connection, byte by byte, with handlers that only record."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.protocol.client import ClientProtocol
from geartrain.protocol.packets import RESPONSE, PacketType, encode
from tests.support.recording_handlers import QueryRecord, Record, close_protocol, pending_handlers

HEAD = b"f\0\0"  # one object for all jobs of a function, as in clients


class Wire:
    """A protocol, the bytes that it sent, and a method that sends it a packet."""

    def __init__(self, max_size: int = 1 << 20) -> None:
        self.sent: list[bytes] = []
        self.protocol = ClientProtocol(self.sent.append, lambda: None, max_size=max_size)

    def submit(self, **options: bool) -> Record:
        record = Record(background=options.get("background", False), merges=options.get("merges", False))
        self.protocol.send_submission(record, PacketType.SUBMIT_JOB, b"f\0u\0" if record.merges else b"f\0\0", b"w")
        return record

    def answer(self, kind: PacketType, *arguments: bytes) -> None:
        self.protocol.receive_data(encode(kind, *arguments, magic=RESPONSE))


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_submission_is_encoded_as_in_the_protocol(wire: Wire) -> None:
    wire.protocol.send_submission(Record(), PacketType.SUBMIT_JOB, b"reverse\0\0", b"test")
    wire.protocol.send_submission(Record(), PacketType.SUBMIT_JOB_EPOCH, b"f\0u\x001700000000\0", b"w\0")
    assert b"".join(wire.sent) == (
        b"\0REQ\0\0\0\x07\0\0\0\x0dreverse\0\0test"
        + encode(PacketType.SUBMIT_JOB_EPOCH, b"f", b"u", b"1700000000", b"w\0")
    )


def test_a_large_workload_is_not_copied_into_its_packet(wire: Wire) -> None:
    workload = bytes(100_000)
    wire.protocol.send_submission(Record(), PacketType.SUBMIT_JOB, b"f\0\0", workload)
    assert wire.sent[-1] is workload
    assert b"".join(wire.sent) == encode(PacketType.SUBMIT_JOB, b"f", b"", workload)


class DeferringWire(Wire):
    """A wire whose deferred bytes are sent when :meth:`flush` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.flush_requests = 0
        self.protocol = ClientProtocol(self.sent.append, self.flush_soon)

    def flush_soon(self) -> None:
        self.flush_requests += 1

    def flush(self) -> bytes:
        self.protocol.flush_deferred()
        sent = b"".join(self.sent)
        self.sent.clear()
        return sent


def test_deferred_submissions_are_written_together_at_the_flush() -> None:
    wire = DeferringWire()
    workloads = [b"a", b"bb", b"", b"c\0", bytes(4096), b"d"]
    for turn in range(1, 3):
        for workload in workloads:
            wire.protocol.submit_deferred(Record(), PacketType.SUBMIT_JOB, HEAD, workload)
        assert not wire.sent
        assert wire.flush_requests == turn
        assert wire.flush() == b"".join(encode(PacketType.SUBMIT_JOB, b"f", b"", workload) for workload in workloads)


def test_deferred_packets_are_sent_in_the_order_of_the_requests() -> None:
    wire = DeferringWire()
    submit = wire.protocol.submit_deferred
    submit(Record(), PacketType.SUBMIT_JOB, HEAD, b"1")
    submit(Record(), PacketType.SUBMIT_JOB, b"g\0\0", b"1 of g")
    submit(Record(), PacketType.SUBMIT_JOB, HEAD, bytes(5000))
    submit(Record(), PacketType.SUBMIT_JOB_BG, HEAD, b"2")
    wire.protocol.send_submission(Record(), PacketType.SUBMIT_JOB_BG, b"f\0u\0", b"3")
    wire.protocol.send_query(QueryRecord(b"x", PacketType.ECHO_RES), PacketType.ECHO_REQ)
    submit(Record(), PacketType.SUBMIT_JOB, HEAD, b"4")
    wire.protocol.send_batch(Record(), PacketType.SUBMIT_JOB, HEAD, [b"5", b"6"])
    submit(Record(), PacketType.SUBMIT_JOB, HEAD, b"7")
    assert wire.flush() == b"".join(
        [
            encode(PacketType.SUBMIT_JOB, b"f", b"", b"1"),
            encode(PacketType.SUBMIT_JOB, b"g", b"", b"1 of g"),
            encode(PacketType.SUBMIT_JOB, b"f", b"", bytes(5000)),
            encode(PacketType.SUBMIT_JOB_BG, b"f", b"", b"2"),
            encode(PacketType.SUBMIT_JOB_BG, b"f", b"u", b"3"),
            encode(PacketType.ECHO_REQ, b"x"),
            *(encode(PacketType.SUBMIT_JOB, b"f", b"", b"%d" % number) for number in (4, 5, 6, 7)),
        ]
    )


def test_long_workloads_are_not_deferred() -> None:
    wire = DeferringWire()
    for size in (4096, 4097, 4096):
        wire.protocol.submit_deferred(Record(), PacketType.SUBMIT_JOB, HEAD, bytes(size))
    assert sum(map(len, wire.sent)) > 4096 + 4097
    assert len(wire.flush()) == 4096 + 4097 + 4096 + 3 * (12 + len(HEAD))


def test_deferred_submissions_are_dropped_at_the_end() -> None:
    wire = DeferringWire()
    record = Record()
    wire.protocol.submit_deferred(record, PacketType.SUBMIT_JOB, HEAD, b"w")
    assert close_protocol(wire.protocol) == [record]
    assert wire.flush() == b""


def test_deferred_submissions_are_logged_immediately() -> None:
    wire = DeferringWire()
    log: list[tuple[str, int, bytes]] = []
    wire.protocol.trace = lambda *line: log.append(line)
    wire.protocol.submit_deferred(Record(), PacketType.SUBMIT_JOB, HEAD, b"w")
    assert log == [(">", PacketType.SUBMIT_JOB, HEAD + b"w")]


def test_the_number_of_deferred_submissions_is_limited() -> None:
    wire = DeferringWire()
    for number in range(10_000):
        wire.protocol.submit_deferred(Record(), PacketType.SUBMIT_JOB, HEAD, b"%d" % number)
    assert sum(piece.count(b"\0REQ") for piece in wire.sent) >= 9000
    assert wire.flush().count(b"\0REQ") == 10_000


def test_a_deferred_and_forgotten_submission_keeps_its_place() -> None:
    wire = DeferringWire()
    forgotten, other = Record(), Record()
    for record in (forgotten, other):
        wire.protocol.submit_deferred(record, PacketType.SUBMIT_JOB, HEAD, b"w")
    wire.protocol.forget(forgotten)
    assert pending_handlers(wire.protocol) == [other]
    assert wire.flush().count(b"\0REQ") == 2
    for handle in (b"H:1", b"H:2"):
        wire.answer(PacketType.JOB_CREATED, handle)
        wire.answer(PacketType.WORK_COMPLETE, handle, handle)
    assert other.events == [("created", b"H:2"), ("completed", b"H:2")]
    assert wire.protocol.late_packets == 1


@pytest.mark.parametrize("workloads", [[b"a", b"bb", b"", b"c\0"], [b"a", bytes(100_000), b"b"]])
def test_a_batch_has_the_same_bytes_as_separate_submissions(wire: Wire, workloads: list[bytes]) -> None:
    wire.protocol.send_batch(Record(), PacketType.SUBMIT_JOB_LOW, b"f\0\0", workloads)
    assert b"".join(wire.sent) == b"".join(
        encode(PacketType.SUBMIT_JOB_LOW, b"f", b"", workload) for workload in workloads
    )


def test_the_handler_of_a_batch_is_called_for_each_handle_until_it_is_forgotten(wire: Wire) -> None:
    many, one = Record(), Record()
    wire.protocol.send_batch(many, PacketType.SUBMIT_JOB, b"f\0\0", [b"a", b"b", b"c"])
    wire.protocol.send_submission(one, PacketType.SUBMIT_JOB, b"f\0\0", b"d")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    wire.answer(PacketType.WORK_COMPLETE, b"H:2", b"two")
    wire.protocol.forget_batch(many, [b"H:1"])
    for handle in (b"H:3", b"H:4"):
        wire.answer(PacketType.JOB_CREATED, handle)
    for handle in (b"H:1", b"H:3", b"H:4"):
        wire.answer(PacketType.WORK_COMPLETE, handle, b"result")
    assert many.events == [("created", b"H:1"), ("created", b"H:2"), ("completed", b"two")]
    assert one.ends == 1
    assert wire.protocol.late_packets == 2


@pytest.mark.parametrize("together", [True, False])
def test_replies_to_a_batch_and_to_others_keep_their_order(wire: Wire, together: bool) -> None:
    first, last = Record(), Record()
    wire.protocol.send_batch(first, PacketType.SUBMIT_JOB, b"f\0\0", [b"a", b"b", b"c"])
    one = wire.submit()
    wire.protocol.send_batch(last, PacketType.SUBMIT_JOB, b"f\0\0", [b"d", b"e"])
    replies = [encode(PacketType.JOB_CREATED, b"H:%d" % number, magic=RESPONSE) for number in range(5)]
    replies.insert(1, encode(PacketType.ERROR, b"CODE", b"text", magic=RESPONSE))
    for data in (b"".join(replies),) if together else replies:
        assert wire.protocol.oldest_pending is not None
        wire.protocol.receive_data(data)
    assert wire.protocol.failure is None
    assert wire.protocol.oldest_pending is None
    assert first.events == [("created", b"H:0"), ("refused", b"CODE", b"text"), ("created", b"H:1")]
    assert one.events == [("created", b"H:2")]
    assert last.events == [("created", b"H:3"), ("created", b"H:4")]


def test_each_reply_to_a_batch_is_progress(wire: Wire) -> None:
    wire.protocol.send_batch(Record(), PacketType.SUBMIT_JOB, b"f\0\0", [b"a", b"b", b"c"])
    pending = [wire.protocol.oldest_pending]
    for number in range(3):
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
        pending.append(wire.protocol.oldest_pending)
    assert len(set(pending)) == 4


def test_a_submission_after_a_batch_keeps_its_place_when_forgotten(wire: Wire) -> None:
    many, one, other = Record(), Record(), Record()
    wire.protocol.send_batch(many, PacketType.SUBMIT_JOB, b"f\0\0", [b"a", b"b", b"c"])
    wire.protocol.send_submission(one, PacketType.SUBMIT_JOB, b"f\0\0", b"d")
    wire.protocol.send_submission(other, PacketType.SUBMIT_JOB, b"f\0\0", b"e")
    wire.answer(PacketType.JOB_CREATED, b"H:0")
    wire.protocol.forget(one)
    for number in range(1, 5):
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
    assert [event for _, event in many.events] == [b"H:0", b"H:1", b"H:2"]
    assert one.events == []
    assert other.events == [("created", b"H:4")]


def test_forgetting_a_batch_does_not_affect_other_jobs_with_the_same_handle(wire: Wire) -> None:
    """A job server with a too long handle prefix assigns one handle to several jobs, with or without a unique."""
    before, many, after = Record(), Record(), Record()
    for handler in (before, many, after):
        wire.protocol.send_batch(handler, PacketType.SUBMIT_JOB, b"f\0\0", [b"w"])
        wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget_batch(many, [b"H:1"])
    for data in (b"1", b"2", b"3"):
        wire.answer(PacketType.WORK_COMPLETE, b"H:1", data)
    assert before.events == [("created", b"H:1"), ("completed", b"1")]
    assert many.events == [("created", b"H:1")]
    assert after.events == [("created", b"H:1"), ("completed", b"3")]
    assert wire.protocol.is_idle


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (PacketType.WORK_COMPLETE, "completed"),
        (PacketType.WORK_EXCEPTION, "raised"),
        (PacketType.WORK_DATA, "data"),
        (PacketType.WORK_WARNING, "warning"),
    ],
)
def test_long_packets_are_handled_like_short_ones(wire: Wire, kind: PacketType, event: str) -> None:
    traced: list[tuple[str, int, bytes]] = []
    wire.protocol.trace = lambda *packet: traced.append(packet)
    job, data = wire.submit(), bytes(range(256)) * 2000
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    stream = encode(kind, b"H:1", data, magic=RESPONSE) + encode(
        PacketType.WORK_STATUS, b"H:1", b"1", b"2", magic=RESPONSE
    )
    for i in range(0, len(stream), 100_000):
        assert wire.protocol.failure is None
        wire.protocol.receive_data(stream[i : i + 100_000])
    assert job.events[1] == (event, data)
    assert ("<", kind, b"H:1\0" + data) in traced
    assert wire.protocol.held == 0


def test_the_packets_of_a_job_are_handled_in_order(wire: Wire) -> None:
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.WORK_DATA, b"H:1", b"a\0b")
    wire.answer(PacketType.WORK_WARNING, b"H:1", b"")
    wire.answer(PacketType.WORK_STATUS, b"H:1", b"1", b"2")
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"done\0")
    assert job.events == [
        ("created", b"H:1"),
        ("data", b"a\0b"),
        ("warning", b""),
        ("status", b"1", b"2"),
        ("completed", b"done\0"),
    ]
    assert wire.protocol.is_idle


@pytest.mark.parametrize("tail", [b"", b"\0"])
def test_work_fail_may_carry_one_trailing_nul(wire: Wire, tail: bytes) -> None:
    """gearmand appends it when it turns a WORK_EXCEPTION into a WORK_FAIL."""
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.WORK_FAIL, b"H:1" + tail)
    assert job.events[-1] == ("failed",)


def test_work_exception_is_terminal(wire: Wire) -> None:
    """Perl's server sends a WORK_FAIL after it."""
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.WORK_EXCEPTION, b"H:1", b"oops")
    wire.answer(PacketType.WORK_FAIL, b"H:1")
    assert job.events == [("created", b"H:1"), ("raised", b"oops")]
    assert wire.protocol.late_packets == 1
    assert wire.protocol.failure is None


def test_an_error_is_the_reply_to_the_oldest_pending_request(wire: Wire) -> None:
    first, second, third = wire.submit(), wire.submit(), wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.ERROR, b"QUEUE_ERROR", b"Job queue is full")
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    assert first.events == [("created", b"H:1")]
    assert second.events == [("refused", b"QUEUE_ERROR", b"Job queue is full")]
    assert third.events == [("created", b"H:2")]


def test_queries_and_submissions_share_one_queue_of_replies(wire: Wire) -> None:
    echo, status = QueryRecord(b"x", PacketType.ECHO_RES), QueryRecord(b"H:9", PacketType.STATUS_RES)
    wire.protocol.send_query(echo, PacketType.ECHO_REQ)
    job = wire.submit()
    wire.protocol.send_query(status, PacketType.GET_STATUS)
    assert wire.protocol.oldest_pending == 0
    wire.answer(PacketType.ECHO_RES, b"x")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.STATUS_RES, b"H:9", b"1", b"0", b"3", b"4")
    assert echo.events == [[b"x"]]
    assert job.events == [("created", b"H:1")]
    assert status.events == [[b"H:9", b"1", b"0", b"3", b"4"]]
    assert wire.protocol.oldest_pending is None


def test_a_query_may_be_refused(wire: Wire) -> None:
    option = QueryRecord(b"exceptions", PacketType.OPTION_RES)
    wire.protocol.send_query(option, PacketType.OPTION_REQ)
    wire.answer(PacketType.ERROR, b"unknown_option", b"")
    assert option.events == [(b"unknown_option", b"")]


def test_an_abandoned_submission_keeps_its_place_in_the_queue_of_replies(wire: Wire) -> None:
    jobs = [wire.submit() for _ in range(4)]
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget(jobs[1])
    wire.protocol.forget(jobs[2])
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    wire.answer(PacketType.ERROR, b"QUEUE_ERROR", b"")
    wire.answer(PacketType.JOB_CREATED, b"H:4")
    wire.answer(PacketType.WORK_COMPLETE, b"H:2", b"late")
    wire.answer(PacketType.WORK_COMPLETE, b"H:4", b"four")
    assert jobs[1].events == []
    assert jobs[2].events == []
    assert jobs[3].events == [("created", b"H:4"), ("completed", b"four")]
    assert wire.protocol.late_packets == 2


def test_each_forgotten_one_of_several_merged_submissions_takes_its_copies(wire: Wire) -> None:
    """This does not depend on when it was forgotten."""
    first, second, third = (wire.submit(merges=True) for _ in range(3))
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget(first)
    wire.protocol.forget(second)
    for _ in range(2):
        wire.answer(PacketType.JOB_CREATED, b"H:1")
    for data in (b"1", b"2"):
        for _ in range(3):
            wire.answer(PacketType.WORK_DATA, b"H:1", data)
    for _ in range(3):
        wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"done")
    assert third.events == [("created", b"H:1"), ("data", b"1"), ("data", b"2"), ("completed", b"done")]
    assert second.events == []
    assert wire.protocol.late_packets == 6
    assert wire.protocol.is_idle


def test_packets_for_a_forgotten_job_are_dropped_and_counted(wire: Wire) -> None:
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget(job)
    assert wire.protocol.is_idle, "a job that cannot be merged must not be kept"
    wire.answer(PacketType.WORK_DATA, b"H:1", b"")
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"late")
    assert job.events == [("created", b"H:1")]
    assert wire.protocol.late_packets == 2


def test_a_forgotten_submission_may_be_sent_again_before_its_first_reply(wire: Wire) -> None:
    """A try that timed out before JOB_CREATED must not be confused with the next one."""
    job = wire.submit()
    wire.protocol.forget(job)
    wire.protocol.send_submission(job, PacketType.SUBMIT_JOB, b"f\0\0", b"w")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert job.events == []
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"old")
    wire.answer(PacketType.WORK_COMPLETE, b"H:2", b"new")
    assert job.events == [("created", b"H:2"), ("completed", b"new")]


def test_merged_submissions_get_one_copy_each(wire: Wire) -> None:
    """gearmand sends every packet once for each attached submission, in a row."""
    jobs = [wire.submit(merges=True) for _ in range(2)]
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.WORK_DATA, b"H:1", b"alone")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    for copy in (b"1", b"1", b"2", b"2"):
        wire.answer(PacketType.WORK_DATA, b"H:1", copy)
    third = wire.submit(merges=True)
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    for _ in range(3):
        wire.answer(PacketType.WORK_DATA, b"H:1", b"3")
    for _ in range(3):
        wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"end")
    assert [event for event in jobs[0].events if event[0] == "data"] == [
        ("data", d) for d in (b"alone", b"1", b"2", b"3")
    ]
    assert [event for event in jobs[1].events if event[0] == "data"] == [("data", d) for d in (b"1", b"2", b"3")]
    assert third.events == [("created", b"H:1"), ("data", b"3"), ("completed", b"end")]
    assert all(job.ends == 1 for job in jobs)
    assert wire.protocol.is_idle
    assert wire.protocol.late_packets == 0


def test_a_forgotten_merged_submission_takes_its_copy(wire: Wire) -> None:
    first, second = wire.submit(merges=True), wire.submit(merges=True)
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget(first)
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    for _ in range(2):
        wire.answer(PacketType.WORK_DATA, b"H:1", b"once")
    for _ in range(2):
        wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"end")
    assert second.events == [("created", b"H:1"), ("data", b"once"), ("completed", b"end")]
    assert wire.protocol.late_packets == 2
    assert wire.protocol.is_idle


def test_a_background_job_ends_when_it_is_created(wire: Wire) -> None:
    job = wire.submit(background=True)
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert job.events == [("created", b"H:1")]
    assert wire.protocol.is_idle


@pytest.mark.parametrize("kind", [43, 1000, 0x7FFFFFFF, 0, PacketType.NOOP, PacketType.JOB_ASSIGN])
def test_packets_without_a_meaning_for_clients_are_skipped_and_counted(wire: Wire, kind: int) -> None:
    job = wire.submit()
    wire.protocol.receive_data(b"\0RES" + kind.to_bytes(4) + (3).to_bytes(4) + b"abc")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert wire.protocol.unknown == 1
    assert job.events == [("created", b"H:1")]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (PacketType.JOB_CREATED, (b"H:1",), "expected ECHO_RES, got JOB_CREATED"),
        (PacketType.ECHO_RES, (b"y",), "expected ECHO_RES for 'x', got it for 'y'"),
        (PacketType.STATUS_RES, (b"H:1", b"0", b"0", b"0", b"0"), "expected ECHO_RES"),
    ],
)
def test_a_reply_that_does_not_match_the_query_fails_the_connection(
    wire: Wire, kind: PacketType, arguments: tuple[bytes, ...], message: str
) -> None:
    echo = QueryRecord(b"x", PacketType.ECHO_RES)
    wire.protocol.send_query(echo, PacketType.ECHO_REQ)
    wire.answer(kind, *arguments)
    assert message in str(wire.protocol.failure)
    assert close_protocol(wire.protocol) == [echo], "it must be notified of the loss"


def test_the_handler_of_a_malformed_reply_is_notified_of_the_loss(wire: Wire) -> None:
    status = QueryRecord(b"H:1", PacketType.STATUS_RES)
    wire.protocol.send_query(status, PacketType.GET_STATUS)
    wire.protocol.receive_data(b"\0RES" + PacketType.STATUS_RES.to_bytes(4) + (3).to_bytes(4) + b"H:1")
    assert "STATUS_RES needs 5 arguments" in str(wire.protocol.failure)
    assert close_protocol(wire.protocol) == [status]


def test_forgetting_a_submission_after_a_wrong_reply_does_not_affect_others(wire: Wire) -> None:
    """The application may do this between the wrong reply and the loss of the connection."""
    first, second, third = wire.submit(), wire.submit(), wire.submit()
    wire.answer(PacketType.ECHO_RES, b"x")
    assert wire.protocol.failure is not None
    wire.protocol.forget(first)
    assert close_protocol(wire.protocol) == [second, third]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (PacketType.JOB_CREATED, (b"H:1",), "unexpected JOB_CREATED"),
        (PacketType.STATUS_RES, (b"H:1", b"0", b"0", b"0", b"0"), "unexpected STATUS_RES"),
        (PacketType.ERROR, (b"X", b"y"), "unexpected ERROR X 'y'"),
    ],
)
def test_an_unexpected_reply_fails_the_connection(
    wire: Wire, kind: PacketType, arguments: tuple[bytes, ...], message: str
) -> None:
    wire.answer(kind, *arguments)
    assert isinstance(wire.protocol.failure, RemoteProtocolError)
    assert message in str(wire.protocol.failure)


def test_packets_before_a_fault_count_and_later_ones_do_not(wire: Wire) -> None:
    jobs = [wire.submit(), wire.submit()]
    wire.protocol.receive_data(
        encode(PacketType.JOB_CREATED, b"H:1", magic=RESPONSE)
        + encode(PacketType.WORK_COMPLETE, b"H:1", b"good", magic=RESPONSE)
        + b"garbage, and more"
    )
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    assert jobs[0].events == [("created", b"H:1"), ("completed", b"good")]
    assert wire.protocol.failure is not None
    assert close_protocol(wire.protocol) == [jobs[1]]


def test_a_request_fails_the_connection(wire: Wire) -> None:
    """A peer that sends one is not a job server, and will never reply."""
    job = wire.submit()
    wire.protocol.receive_data(encode(PacketType.ECHO_REQ, b"x"))
    assert str(wire.protocol.failure) == r"a packet from a job server must begin with \0RES, got \0REQ"
    assert close_protocol(wire.protocol) == [job]


def test_work_complete_without_its_nul_fails_the_connection(wire: Wire) -> None:
    wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.receive_data(b"\0RES" + (13).to_bytes(4) + (3).to_bytes(4) + b"H:1")
    assert "WORK_COMPLETE needs 2 arguments" in str(wire.protocol.failure)


def test_close_returns_the_handlers_that_still_wait(wire: Wire) -> None:
    done, created, merged, waiting, forgotten = [wire.submit(merges=True) for _ in range(5)]
    for handle in (b"H:1", b"H:2", b"H:2"):
        wire.answer(PacketType.JOB_CREATED, handle)
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"")
    wire.protocol.forget(forgotten)
    query = QueryRecord(b"x", PacketType.ECHO_RES)
    wire.protocol.send_query(query, PacketType.ECHO_REQ)
    assert close_protocol(wire.protocol) == [created, merged, waiting, query]
    assert wire.protocol.is_idle
    assert done.ends == 1


def probed(wire: Wire) -> list[bytes]:
    """Return the handles that were probed since the last call."""
    handles = [packet[12:] for packet in wire.sent if packet[4:8] == (15).to_bytes(4)]
    wire.sent.clear()
    return handles


def test_a_stale_job_is_probed_and_lost_if_its_server_does_not_know_it(wire: Wire) -> None:
    lost, known, active = [wire.submit() for _ in range(3)]
    for number in (1, 2, 3):
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
    for _ in range(2):
        wire.protocol.probe_stale_jobs(max_probes=10)
        assert probed(wire) == [], "the jobs are not stale yet"
    wire.answer(PacketType.WORK_STATUS, b"H:3", b"1", b"2")
    wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == [b"H:1", b"H:2"]
    wire.answer(PacketType.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
    wire.answer(PacketType.STATUS_RES, b"H:2", b"1", b"0", b"0", b"0")
    assert lost.events[-1] == ("forgotten",)
    assert known.ends == active.ends == 0
    wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == []
    wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == [b"H:3"]
    wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == [b"H:2"], "a known job is probed again, a job with an open probe is not"


def test_a_job_that_ends_during_its_probe_is_not_lost(wire: Wire) -> None:
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    for _ in range(3):
        wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == [b"H:1"]
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"in time")
    wire.answer(PacketType.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
    assert job.events == [("created", b"H:1"), ("completed", b"in time")]


def test_all_merged_submissions_are_lost_with_their_job(wire: Wire) -> None:
    jobs = [wire.submit(merges=True) for _ in range(3)]
    for _ in jobs:
        wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.protocol.forget(jobs[0])
    for _ in range(3):
        wire.protocol.probe_stale_jobs(max_probes=10)
    wire.answer(PacketType.STATUS_RES, b"H:1", b"0", b"0", b"0", b"0")
    assert [job.ends for job in jobs] == [0, 1, 1]
    assert wire.protocol.is_idle


def test_many_stale_jobs_are_probed_a_few_at_a_time_and_each_in_turn(wire: Wire) -> None:
    for number in range(9):
        wire.submit()
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
    turns: list[bytes] = []
    for _ in range(9):
        wire.protocol.probe_stale_jobs(max_probes=4, max_open=2)
        while batch := probed(wire):
            assert len(batch) <= 2
            turns += batch
            for handle in batch:
                wire.answer(PacketType.STATUS_RES, handle, b"1", b"0", b"0", b"0")
    assert set(turns[:12]) == {b"H:%d" % number for number in range(9)}


def test_a_slow_server_gets_no_more_probes_before_it_has_replied(wire: Wire) -> None:
    for number in range(9):
        wire.submit()
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
    for _ in range(6):
        wire.protocol.probe_stale_jobs(max_probes=9, max_open=2)
    assert probed(wire) == [b"H:0", b"H:1"]
    wire.answer(PacketType.STATUS_RES, b"H:0", b"1", b"0", b"0", b"0")
    assert len(probed(wire)) == 1


@pytest.mark.parametrize("probed_before", [False, True])
def test_nothing_is_kept_of_jobs_that_had_updates_and_have_ended(wire: Wire, probed_before: bool) -> None:
    """The heartbeat may be off, or never find a running job: then the record of recent updates is never reset."""

    def run(numbers: Iterable[int]) -> None:
        for number in numbers:
            handle = b"H:%d" % number
            wire.submit()
            wire.answer(PacketType.JOB_CREATED, handle)
            wire.answer(PacketType.WORK_STATUS, handle, b"1", b"2")
            wire.answer(PacketType.WORK_COMPLETE, handle, b"")
            wire.sent.clear()

    if probed_before:
        wire.submit()
        wire.answer(PacketType.JOB_CREATED, b"H:first")
        wire.protocol.probe_stale_jobs(max_probes=10)
        wire.answer(PacketType.WORK_COMPLETE, b"H:first", b"")
        wire.protocol.stop_probing()
    run(range(10))
    tracemalloc.start()
    run(range(10, 1000))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000


def test_a_handle_that_gearmand_ignores_in_get_status_is_not_probed(wire: Wire) -> None:
    wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H" * 64)
    for _ in range(4):
        wire.protocol.probe_stale_jobs(max_probes=10)
    assert probed(wire) == []


def test_a_refused_probe_does_not_affect_the_job(wire: Wire) -> None:
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    for _ in range(3):
        wire.protocol.probe_stale_jobs(max_probes=10)
    wire.answer(PacketType.ERROR, b"server_error", b"what?")
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"")
    assert job.ends == 1


def test_a_query_that_cannot_be_encoded_waits_for_no_reply(wire: Wire) -> None:
    class Wrong(QueryRecord):
        pass

    with pytest.raises(LocalProtocolError):
        wire.protocol.send_query(Wrong(b"", PacketType.ECHO_RES), PacketType.GRAB_JOB)
    assert wire.protocol.oldest_pending is None


def test_every_packet_is_logged(wire: Wire) -> None:
    lines: list[tuple[str, int, bytes]] = []
    wire.protocol.trace = lambda direction, kind, body: lines.append((direction, kind, body))
    wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert lines == [(">", PacketType.SUBMIT_JOB, b"f\0\0w"), ("<", PacketType.JOB_CREATED, b"H:1")]


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(0, 5))
def test_any_bytes_give_packets_or_a_protocol_error(chunks: list[bytes], submissions: int) -> None:
    wire = Wire()
    for _ in range(submissions):
        wire.submit()
    for chunk in chunks:
        wire.protocol.receive_data(chunk)
    assert wire.protocol.failure is None or isinstance(wire.protocol.failure, RemoteProtocolError)


PACKETS = st.builds(
    lambda kind, arguments: b"\0RES" + kind.to_bytes(4) + len(arguments).to_bytes(4) + arguments,
    st.integers(0, 45),
    st.sampled_from(
        [b"", b"H:1", b"H:1\0", b"H:1\0data", b"H:2\0data", b"H:1\0001\0002", b"x", b"H:1\x000\x000\x000\x000"]
    ),
)


@given(st.lists(PACKETS, max_size=40), st.integers(0, 6), st.booleans())
def test_no_order_of_packets_ends_a_submission_twice(packets: list[bytes], submissions: int, merges: bool) -> None:
    wire = Wire()
    jobs = [wire.submit(merges=merges) for _ in range(submissions)]
    for packet in packets:
        wire.protocol.receive_data(packet)
    left = close_protocol(wire.protocol)
    for job in jobs:
        assert job.ends + left.count(job) == 1


class ReplyQueueMachine(RuleBasedStateMachine):
    """A job server that follows the protocol, with submissions, cancellations, ends and losses in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.unanswered: list[Record] = []  # submissions without a reply
        self.attached: dict[bytes, list[Record]] = {}  # by handle: submissions in the order of their replies
        self.all: list[Record] = []
        self.forgotten: set[int] = set()
        self.count = 0

    @rule(merges=st.booleans())
    def submit(self, merges: bool) -> None:
        job = self.wire.submit(merges=merges)
        self.unanswered.append(job)
        self.all.append(job)

    @precondition(lambda self: self.unanswered)
    @rule(refuse=st.booleans())
    def answer(self, refuse: bool) -> None:
        job = self.unanswered.pop(0)
        if refuse:
            self.wire.answer(PacketType.ERROR, b"QUEUE_ERROR", b"")
            return
        handle = b"H:merged" if job.merges else b"H:%d" % self.count
        self.count += 1
        self.attached.setdefault(handle, []).append(job)
        self.wire.answer(PacketType.JOB_CREATED, handle)

    @precondition(lambda self: self.attached)
    @rule(data=st.data(), kind=st.sampled_from([PacketType.WORK_DATA, PacketType.WORK_WARNING]))
    def update(self, data: st.DataObject, kind: PacketType) -> None:
        handle = data.draw(st.sampled_from(sorted(self.attached)))
        before = {id(job): len(job.events) for job in self.all}
        for _ in self.attached[handle]:
            self.wire.answer(kind, handle, b"x")
        for job in self.all:
            is_attached = job in self.attached[handle] and id(job) not in self.forgotten
            assert len(job.events) - before[id(job)] == is_attached, "only each attached job gets one copy"

    @precondition(lambda self: self.attached)
    @rule(
        data=st.data(),
        kind=st.sampled_from([PacketType.WORK_COMPLETE, PacketType.WORK_FAIL, PacketType.WORK_EXCEPTION]),
    )
    def end(self, data: st.DataObject, kind: PacketType) -> None:
        handle = data.draw(st.sampled_from(sorted(self.attached)))
        for job in self.attached.pop(handle):
            self.wire.answer(kind, handle, *([] if kind is PacketType.WORK_FAIL else [b"x"]))
            assert job.ends == (id(job) not in self.forgotten)

    @precondition(lambda self: any(job.ends == 0 and id(job) not in self.forgotten for job in self.all))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        live = [job for job in self.all if job.ends == 0 and id(job) not in self.forgotten]
        job = live[data.draw(st.integers(0, len(live) - 1))]
        self.forgotten.add(id(job))
        self.wire.protocol.forget(job)

    @invariant()
    def the_connection_has_not_failed(self) -> None:
        assert self.wire.protocol.failure is None
        assert (self.wire.protocol.oldest_pending is None) == (not self.unanswered)

    def teardown(self) -> None:
        left = close_protocol(self.wire.protocol)
        for job in self.all:
            assert job.ends + left.count(job) + (id(job) in self.forgotten) == 1


TestReplyQueue = ReplyQueueMachine.TestCase
TestReplyQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# Job servers that ignore OPTION_REQ or ECHO_REQ, such as Python's gear.


def ask_optional(wire: Wire, kind: PacketType) -> QueryRecord:
    """Send a query that some job servers ignore, with the reply ``OPTION_RES`` or ``ECHO_RES``."""
    query = QueryRecord(b"exceptions", kind)
    wire.protocol.send_query(query, PacketType.OPTION_REQ if kind is PacketType.OPTION_RES else PacketType.ECHO_REQ)
    return query


optional = pytest.mark.parametrize("kind", [PacketType.OPTION_RES, PacketType.ECHO_RES])


@optional
def test_job_created_shows_that_the_request_before_it_is_ignored(wire: Wire, kind: PacketType) -> None:
    query, job = ask_optional(wire, kind), wire.submit()
    assert not wire.protocol.ignores_requests
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert query.events == ["ignored"]
    assert wire.protocol.ignores_requests
    wire.answer(PacketType.WORK_COMPLETE, b"H:1", b"done")
    assert job.events == [("created", b"H:1"), ("completed", b"done")]
    assert wire.protocol.failure is None
    assert wire.protocol.is_idle


@optional
@pytest.mark.parametrize(
    ("request_type", "reply_type", "arguments"),
    [
        (PacketType.GET_STATUS, PacketType.STATUS_RES, (b"1", b"1", b"0", b"0")),
        (PacketType.GET_STATUS_UNIQUE, PacketType.STATUS_RES_UNIQUE, (b"1", b"1", b"0", b"0", b"2")),
    ],
)
def test_a_status_shows_that_the_request_before_it_is_ignored(
    wire: Wire, kind: PacketType, request_type: PacketType, reply_type: PacketType, arguments: tuple[bytes, ...]
) -> None:
    query, status = ask_optional(wire, kind), QueryRecord(b"x", reply_type)
    wire.protocol.send_query(status, request_type)
    wire.answer(reply_type, b"x", *arguments)
    assert query.events == ["ignored"]
    assert status.events == [[b"x", *arguments]]
    assert wire.protocol.failure is None


def test_echo_res_shows_that_an_option_is_ignored(wire: Wire) -> None:
    option, echo = ask_optional(wire, PacketType.OPTION_RES), QueryRecord(b"x", PacketType.ECHO_RES)
    wire.protocol.send_query(echo, PacketType.ECHO_REQ)
    job = wire.submit()
    wire.answer(PacketType.ECHO_RES, b"x")
    assert option.events == ["ignored"]
    assert echo.events == [[b"x"]]
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert job.events == [("created", b"H:1")]


@optional
def test_several_ignored_requests_shift_no_reply(wire: Wire, kind: PacketType) -> None:
    queries = [ask_optional(wire, PacketType.OPTION_RES), *(ask_optional(wire, kind) for _ in range(3))]
    jobs = [wire.submit() for _ in range(2)]
    queries += [ask_optional(wire, kind), ask_optional(wire, PacketType.ECHO_RES)]
    many = Record()
    wire.protocol.send_batch(many, PacketType.SUBMIT_JOB, HEAD, [b"1", b"2"])
    wire.protocol.receive_data(
        b"".join(encode(PacketType.JOB_CREATED, b"H:%d" % number, magic=RESPONSE) for number in range(4))
    )
    assert [query.events for query in queries] == [["ignored"]] * 6
    assert [job.events for job in jobs] == [[("created", b"H:0")], [("created", b"H:1")]]
    assert many.events == [("created", b"H:2"), ("created", b"H:3")]
    assert wire.protocol.oldest_pending is None


@optional
def test_an_error_instead_of_the_first_reply_belongs_to_that_request(wire: Wire, kind: PacketType) -> None:
    query, job = ask_optional(wire, kind), wire.submit()
    wire.answer(PacketType.ERROR, b"unknown", b"text")
    assert query.events == [(b"unknown", b"text")]
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert job.events == [("created", b"H:1")]
    assert not wire.protocol.ignores_requests


@optional
def test_an_error_of_a_server_that_ignores_requests_belongs_to_the_submission(wire: Wire, kind: PacketType) -> None:
    ask_optional(wire, kind)
    wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    echo, refused, created = ask_optional(wire, PacketType.ECHO_RES), wire.submit(), wire.submit()
    wire.answer(PacketType.ERROR, b"0", b"Permission denied by ACL")
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    assert echo.events == ["ignored"]
    assert refused.events == [("refused", b"0", b"Permission denied by ACL")]
    assert created.events == [("created", b"H:2")]


@optional
@pytest.mark.parametrize(
    ("result", "arguments", "event"),
    [
        (PacketType.WORK_DATA, (b"H:1", b"d"), ("data", b"d")),
        (PacketType.WORK_WARNING, (b"H:1", b"w"), ("warning", b"w")),
        (PacketType.WORK_STATUS, (b"H:1", b"1", b"2"), ("status", b"1", b"2")),
        (PacketType.WORK_COMPLETE, (b"H:1", b"r"), ("completed", b"r")),
        (PacketType.WORK_FAIL, (b"H:1",), ("failed",)),
        (PacketType.WORK_EXCEPTION, (b"H:1", b"e"), ("raised", b"e")),
    ],
)
def test_results_do_not_show_that_a_pending_request_is_ignored(
    wire: Wire, kind: PacketType, result: PacketType, arguments: tuple[bytes, ...], event: tuple[object, ...]
) -> None:
    job = wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    query = ask_optional(wire, kind)
    wire.answer(result, *arguments)
    assert job.events == [("created", b"H:1"), event]
    assert query.events == []
    wire.answer(kind, b"exceptions")
    assert query.events == [[b"exceptions"]]
    assert wire.protocol.failure is None


@pytest.mark.parametrize("name", [b"exceptions", b"another"])
def test_a_late_option_res_is_dropped_by_its_type(wire: Wire, name: bytes) -> None:
    option, first, second = ask_optional(wire, PacketType.OPTION_RES), wire.submit(), wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.OPTION_RES, name)
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    wire.answer(PacketType.OPTION_RES, name)
    assert option.events == ["ignored"]
    assert first.events == [("created", b"H:1")]
    assert second.events == [("created", b"H:2")]
    assert wire.protocol.failure is None
    assert wire.protocol.unknown == 2


def test_an_option_res_after_an_error_for_it_is_dropped(wire: Wire) -> None:
    ask_optional(wire, PacketType.OPTION_RES)
    job = wire.submit()
    wire.answer(PacketType.ERROR, b"unknown", b"")
    wire.answer(PacketType.OPTION_RES, b"exceptions")
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    assert job.events == [("created", b"H:1")]
    assert wire.protocol.failure is None


def test_a_late_echo_res_is_dropped(wire: Wire) -> None:
    echo = QueryRecord(b"1", PacketType.ECHO_RES)
    wire.protocol.send_query(echo, PacketType.ECHO_REQ)
    wire.submit()
    wire.answer(PacketType.JOB_CREATED, b"H:1")
    wire.answer(PacketType.ECHO_RES, b"1")
    again, job = QueryRecord(b"2", PacketType.ECHO_RES), wire.submit()
    wire.answer(PacketType.ECHO_RES, b"1")
    wire.answer(PacketType.JOB_CREATED, b"H:2")
    wire.protocol.send_query(again, PacketType.ECHO_REQ)
    wire.answer(PacketType.ECHO_RES, b"1")
    wire.answer(PacketType.ECHO_RES, b"2")
    assert echo.events == ["ignored"]
    assert again.events == [[b"2"]]
    assert job.events == [("created", b"H:2")]
    assert wire.protocol.failure is None


@optional
def test_an_optional_query_is_not_overdue_but_notified_of_the_loss(wire: Wire, kind: PacketType) -> None:
    query = ask_optional(wire, kind)
    assert wire.protocol.oldest_pending is None
    assert not wire.protocol.is_idle
    assert close_protocol(wire.protocol) == [query]


@optional
@given(st.data())
@settings(max_examples=50, deadline=None)
def test_whatever_is_ignored_every_submission_gets_its_own_reply(kind: PacketType, data: st.DataObject) -> None:
    """A job server that ignores all requests of one type, and answers or refuses the submissions in order."""
    wire = Wire()
    first = wire.submit()
    ask_optional(wire, kind)
    wire.submit()
    for handle in (b"H:a", b"H:b"):
        wire.answer(PacketType.JOB_CREATED, handle)
    assert first.events == [("created", b"H:a")]
    jobs: list[Record] = []
    for is_job in data.draw(st.lists(st.booleans(), max_size=20)):
        if is_job:
            jobs.append(wire.submit())
        else:
            ask_optional(wire, kind)
    replies: list[tuple[object, ...]] = []
    for number in range(len(jobs)):
        refused = data.draw(st.booleans())
        arguments = (b"0", b"no") if refused else (b"H:%d" % number,)
        wire.answer(PacketType.ERROR if refused else PacketType.JOB_CREATED, *arguments)
        replies.append(("refused", b"0", b"no") if refused else ("created", arguments[0]))
    assert [job.events for job in jobs] == [[reply] for reply in replies]
    assert wire.protocol.failure is None


def test_after_an_error_the_next_reply_is_pending(wire: Wire) -> None:
    """A heartbeat takes an unchanged ``oldest_pending`` for silence, even if a full job server refuses submissions."""
    many = Record()
    wire.submit()
    wire.protocol.send_batch(many, PacketType.SUBMIT_JOB, HEAD, [b"1", b"2"])
    before = wire.protocol.oldest_pending
    pending = []
    for _ in range(3):
        wire.answer(PacketType.ERROR, b"QUEUE_ERROR", b"full")
        pending.append(wire.protocol.oldest_pending)
    assert before is not None
    assert pending == [before + 1, before + 2, None]


def test_a_stale_job_that_its_server_knows_does_not_delay_the_probes_of_others(wire: Wire) -> None:
    for number in range(10):
        wire.submit()
        wire.answer(PacketType.JOB_CREATED, b"H:%d" % number)
    wire.sent.clear()
    turns: list[bytes] = []
    for _ in range(60):
        wire.protocol.probe_stale_jobs(max_probes=1)
        for handle in probed(wire):
            turns.append(handle)
            wire.answer(PacketType.STATUS_RES, handle, b"1", b"1", b"0", b"0")
    assert set(turns) == {b"H:%d" % number for number in range(10)}
