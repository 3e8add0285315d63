from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import REQUEST, RESPONSE, PacketType, encode
from geartrain.protocol.worker import Assignment, WorkerProtocol, encode_status
from geartrain.protocol.worker_state import WorkerState

NO_JOB = encode(PacketType.NO_JOB, magic=RESPONSE)
NOOP = encode(PacketType.NOOP, magic=RESPONSE)
UNKNOWN_TYPE = b"\0RES\0\0\0\x2b\0\0\0\x03abc"


def error(code: bytes = b"JOB_NOT_FOUND", text: bytes = b"Job given in work result not found") -> bytes:
    return encode(PacketType.ERROR, code, text, magic=RESPONSE)


def assign(handle: bytes = b"H:lap:1", function: bytes = b"reverse", workload: bytes = b"test") -> bytes:
    return encode(PacketType.JOB_ASSIGN_UNIQ, handle, function, b"u1", workload, magic=RESPONSE)


class Wire:
    """A worker's protocol, and the packets that it sent, decoded."""

    def __init__(self, *functions: bytes) -> None:
        self.sent: list[bytes] = []
        self.refused: list[tuple[bytes, bytes]] = []
        self.worker = WorkerProtocol(self.sent.append, on_error=lambda code, text: self.refused.append((code, text)))
        for function in functions:
            self.worker.send_can_do(function)

    def receive(self, data: bytes, now: float = 0.0) -> list[Assignment]:
        return self.worker.receive_data(data, now)

    def take(self) -> list[tuple[PacketType, bytes]]:
        """Return what was sent since the last call."""
        decoder = Decoder(REQUEST)
        packets = [(PacketType(kind), body) for kind, bodies in decoder.feed(b"".join(self.sent)) for body in bodies]
        assert not decoder.held
        assert decoder.failure is None
        self.sent.clear()
        return packets

    def given(self, *handles: bytes) -> list[Assignment]:
        """Assign jobs of the first function."""
        jobs = []
        for handle in handles:
            self.worker.send_grab()
            jobs += self.receive(assign(handle))
        self.take()
        return jobs


@pytest.fixture
def wire() -> Wire:
    wire = Wire(b"reverse")
    wire.take()
    return wire


def put_to_sleep(wire: Wire) -> None:
    wire.worker.send_grab()
    wire.receive(NO_JOB)
    wire.worker.send_pre_sleep(0.0)
    wire.take()


# Bytes.


def test_the_example_of_the_protocol_document_byte_by_byte() -> None:
    """PROTOCOL, "Example": CAN_DO, GRAB_JOB, NO_JOB, PRE_SLEEP, NOOP, GRAB_JOB, JOB_ASSIGN, WORK_COMPLETE."""
    sent: list[bytes] = []
    worker = WorkerProtocol(sent.append)
    worker.send_can_do(b"reverse")
    worker.send_grab()
    assert worker.receive_data(b"\0RES\0\0\0\x0a\0\0\0\0", 0.0) == []
    worker.send_pre_sleep(0.0)
    assert worker.receive_data(b"\0RES\0\0\0\x06\0\0\0\0", 0.0) == []
    worker.send_grab()
    (job,) = worker.receive_data(b"\0RES\0\0\0\x0b\0\0\0\x14H:lap:1\0reverse\0test", 0.0)
    assert job == (b"H:lap:1", b"reverse", b"", b"test")
    worker.send_complete(job, b"tset")
    assert sent == [
        b"\0REQ\0\0\0\x01\0\0\0\x07reverse",
        b"\0REQ\0\0\0\x1e\0\0\0\0",
        b"\0REQ\0\0\0\x04\0\0\0\0",
        b"\0REQ\0\0\0\x1e\0\0\0\0",
        b"\0REQ\0\0\0\x0d\0\0\0\x0cH:lap:1\0tset",
    ]


def test_packets_for_a_job_are_encoded_as_in_the_table(wire: Wire) -> None:
    (job,) = wire.given(b"H:lap:1")
    assert wire.worker.send_update(job, PacketType.WORK_STATUS, encode_status(b"1", b"2"))
    assert wire.worker.send_update(job, PacketType.WORK_DATA, b"a\0b")
    assert wire.worker.send_update(job, PacketType.WORK_WARNING, b"w")
    assert wire.worker.send_fail(job)
    assert wire.sent == [
        b"\0REQ\0\0\0\x0c\0\0\0\x0bH:lap:1\x001\x002",
        b"\0REQ\0\0\0\x1c\0\0\0\x0bH:lap:1\0a\0b",
        b"\0REQ\0\0\0\x1d\0\0\0\x09H:lap:1\0w",
        b"\0REQ\0\0\0\x0e\0\0\0\x07H:lap:1",
    ]


def test_the_handle_is_followed_by_a_nul_even_if_there_is_no_data(wire: Wire) -> None:
    for number, send in enumerate((wire.worker.send_complete, wire.worker.send_exception)):
        handle = b"H:lap:%d" % number
        (job,) = wire.given(handle)
        send(job, b"")
        assert wire.take()[0][1] == handle + b"\0"


def test_large_data_is_sent_after_its_header_without_a_copy(wire: Wire) -> None:
    (job,) = wire.given(b"H:lap:1")
    data = bytes(1024 * 1024)
    wire.worker.send_complete(job, data)
    assert wire.sent[1] is data
    assert wire.take() == [(PacketType.WORK_COMPLETE, b"H:lap:1\0" + data)]


def test_the_client_id_and_a_timeout_are_written_as_text() -> None:
    wire = Wire()
    wire.worker.send_client_id(b"w1")
    wire.worker.send_can_do(b"reverse", timeout_ms=1500)
    assert wire.take() == [(PacketType.SET_CLIENT_ID, b"w1"), (PacketType.CAN_DO_TIMEOUT, b"reverse\x001500")]


@pytest.mark.parametrize("step", [1, 2, 11, 12, 13, 1000])
def test_receiving_does_not_depend_on_how_the_bytes_arrive(step: int) -> None:
    stream = assign(b"H:lap:1") + UNKNOWN_TYPE + error() + assign(b"H:lap:2", workload=b"a\0b") + NO_JOB
    wire = Wire(b"reverse")
    for _ in range(3):
        wire.worker.send_grab()
    jobs = [job for at in range(0, len(stream), step) for job in wire.receive(stream[at : at + step])]
    assert [(job.handle, job.unique, job.workload) for job in jobs] == [
        (b"H:lap:1", b"u1", b"test"),
        (b"H:lap:2", b"u1", b"a\0b"),
    ]
    assert (wire.worker.grabs, wire.worker.unknown, wire.worker.errors) == (0, 1, 1)
    assert wire.worker.failure is None


# Grab, sleep, wake.


def grab_while_allowed(wire: Wire) -> int:
    """Send as many grabs as allowed, assign a job for each, and return their number."""
    count = 0
    while wire.worker.may_grab:
        wire.worker.send_grab()
        count += 1
    wire.receive(b"".join(assign(b"H:%d" % number) for number in range(count)))
    return count


def test_grabs_may_be_pipelined_and_the_window_grows_while_jobs_arrive(wire: Wire) -> None:
    assert [grab_while_allowed(wire) for _ in range(4)] == [1, 2, 4, 8]
    wire.worker.send_grab()
    wire.receive(NO_JOB)
    assert not wire.worker.may_grab
    assert wire.worker.may_sleep


def test_the_window_closes_at_a_grab_without_a_job(wire: Wire) -> None:
    """Otherwise each wake-up for one job would be followed by as many grabs as there were jobs before."""
    assert [grab_while_allowed(wire) for _ in range(3)] == [1, 2, 4]
    put_to_sleep(wire)
    wire.receive(NOOP)
    assert [grab_while_allowed(wire) for _ in range(3)] == [1, 2, 4]


def test_the_window_has_a_limit(wire: Wire) -> None:
    while grab_while_allowed(wire) < 256:
        pass
    assert grab_while_allowed(wire) == 256


def test_a_closed_connection_has_no_pending_replies(wire: Wire) -> None:
    wire.worker.send_grab()
    wire.worker.send_probe()
    wire.worker.close()
    assert (wire.worker.grabs, wire.worker.probes) == (0, 0)


ECHO_RES = encode(PacketType.ECHO_RES, b"geartrain", magic=RESPONSE)
STATUS_RES = encode(PacketType.STATUS_RES, b"geartrain", b"0", b"0", b"", b"", magic=RESPONSE)


@pytest.mark.parametrize("answer", [ECHO_RES + STATUS_RES, ECHO_RES, STATUS_RES])
def test_a_probe_is_answered_by_whichever_request_the_job_server_does_not_ignore(wire: Wire, answer: bytes) -> None:
    for _ in range(2):
        wire.worker.send_probe()
        wire.worker.send_probe()
        assert wire.take() == [(PacketType.ECHO_REQ, b"geartrain"), (PacketType.GET_STATUS, b"geartrain")] * 2
        assert wire.worker.probes == 2
        wire.receive(answer)
        assert wire.worker.probes == 1
        wire.receive(answer)
        assert wire.worker.probes == 0
    assert wire.worker.failure is None


@pytest.mark.parametrize("answer", [ECHO_RES, STATUS_RES])
def test_more_replies_than_probes_end_the_connection(wire: Wire, answer: bytes) -> None:
    wire.worker.send_probe()
    wire.receive(answer)
    assert wire.worker.failure is None
    wire.receive(answer)
    assert wire.worker.failure is not None


def test_a_worker_sleeps_only_when_all_its_grabs_are_answered(wire: Wire) -> None:
    wire.worker.send_grab()
    wire.worker.send_grab()
    wire.receive(NO_JOB)
    assert not wire.worker.may_sleep
    with pytest.raises(LocalProtocolError, match="grabbing cannot send PRE_SLEEP"):
        wire.worker.send_pre_sleep(0.0)
    wire.receive(NO_JOB)
    assert wire.worker.may_sleep


def test_a_grab_is_sent_after_every_noop_before_the_next_sleep(wire: Wire) -> None:
    """gearmand remembers until the next grab that it has woken a worker, and does not wake it again before."""
    put_to_sleep(wire)
    wire.receive(NOOP)
    assert wire.worker.state is WorkerState.AWAKE
    assert wire.worker.may_grab
    assert not wire.worker.may_sleep
    with pytest.raises(LocalProtocolError, match="needs a GRAB_JOB"):
        wire.worker.send_pre_sleep(0.0)


def test_a_grab_is_sent_after_every_can_do_before_the_next_sleep(wire: Wire) -> None:
    put_to_sleep(wire)
    wire.worker.send_can_do(b"other")
    assert wire.worker.may_grab
    with pytest.raises(LocalProtocolError, match="needs a GRAB_JOB"):
        wire.worker.send_pre_sleep(0.0)
    wire.worker.send_grab()
    wire.worker.send_can_do(b"third")
    wire.receive(NO_JOB)  # of the grab before the third ability
    assert wire.worker.may_grab
    assert not wire.worker.may_sleep


def test_a_noop_that_crosses_a_grab_is_skipped(wire: Wire) -> None:
    put_to_sleep(wire)
    wire.worker.send_grab()
    assert wire.receive(NOOP + NOOP) == []
    assert (wire.worker.state, wire.worker.grabs) == (WorkerState.GRABBING, 1)
    assert len(wire.receive(assign())) == 1


def test_a_worker_that_is_repeatedly_woken_without_a_job_must_wait(wire: Wire) -> None:
    now = 50.0
    put_to_sleep(wire)
    for _ in range(3):
        wire.worker.receive_data(NOOP, now)
        assert wire.worker.grab_after <= now
        wire.worker.send_grab()
        wire.worker.receive_data(NO_JOB, now)
        wire.worker.send_pre_sleep(now)
    wire.worker.receive_data(NOOP, now)
    assert wire.worker.grab_after > now


def test_an_ability_is_registered_once() -> None:
    wire = Wire(b"reverse")
    with pytest.raises(LocalProtocolError, match="b'reverse' is already registered"):
        wire.worker.send_can_do(b"reverse")
    assert wire.take() == [(PacketType.CAN_DO, b"reverse")]


@pytest.mark.parametrize("function", [b"", b"a\0b", b"a\0"])
def test_a_function_name_that_gearmand_would_corrupt_is_rejected(function: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="must not be empty or contain a NUL"):
        WorkerProtocol(list[bytes]().append).send_can_do(function)


def test_a_sleeping_worker_may_grab_without_a_wakeup(wire: Wire) -> None:
    """gearmand 1.1.20 wakes no worker for an EPOCH job that has become due."""
    put_to_sleep(wire)
    assert not wire.worker.may_grab
    wire.worker.request_grab()
    assert wire.worker.may_grab
    wire.worker.send_grab()
    wire.receive(NO_JOB)
    wire.worker.send_pre_sleep(1.0)
    assert [kind.name for kind, _ in wire.take()] == ["GRAB_JOB_UNIQ", "PRE_SLEEP"]


def test_a_worker_without_abilities_does_not_grab() -> None:
    assert not Wire().worker.may_grab


# ERROR.


def test_after_an_error_for_the_first_grab_the_worker_uses_grab_job() -> None:
    """Perl's server does not support GRAB_JOB_UNIQ, and sends its own error."""
    wire = Wire(b"reverse")
    wire.worker.send_grab()
    wire.receive(error(b"server_error", b"Unknown command type at Server.pm line 1"))
    assert (wire.worker.grabs, wire.worker.errors, wire.refused) == (0, 0, [])
    assert wire.worker.may_grab
    wire.worker.send_grab()
    (job,) = wire.receive(encode(PacketType.JOB_ASSIGN, b"H:lap:1", b"reverse", b"a\0b", magic=RESPONSE))
    assert job == (b"H:lap:1", b"reverse", b"", b"a\0b")
    assert [kind.name for kind, _ in wire.take()] == ["CAN_DO", "GRAB_JOB_UNIQ", "GRAB_JOB"]


def test_a_server_that_requires_grab_job_gets_a_work_fail_after_an_exception() -> None:
    """For Perl's server WORK_EXCEPTION is not the end of a job: its clients would wait forever."""
    wire = Wire(b"reverse")
    wire.worker.send_grab()
    wire.receive(error(b"server_error", b""))
    wire.worker.send_grab()
    (job,) = wire.receive(encode(PacketType.JOB_ASSIGN, b"H:lap:1", b"reverse", b"", magic=RESPONSE))
    wire.take()
    wire.worker.send_exception(job, b"KeyError: 1")
    wire.worker.send_fail(job)
    assert wire.take() == [
        (PacketType.WORK_EXCEPTION, b"H:lap:1\0KeyError: 1"),
        (PacketType.WORK_FAIL, b"H:lap:1"),
    ]


def test_the_reason_of_a_failure_is_a_warning_before_it(wire: Wire) -> None:
    one, two = wire.given(b"H:1", b"H:2")
    wire.worker.send_fail(one, b"bad\0input")
    wire.receive(error())  # gearmand has reclaimed the job; that says nothing about the packet
    wire.worker.send_fail(two, b"bad")
    assert wire.take() == [
        (PacketType.WORK_WARNING, b"H:1\0bad\0input"),
        (PacketType.WORK_FAIL, b"H:1"),
        (PacketType.WORK_WARNING, b"H:2\0bad"),
        (PacketType.WORK_FAIL, b"H:2"),
    ]
    assert not wire.worker.send_fail(one, b"again")
    assert not wire.take()


def test_a_server_that_refuses_warnings_gets_no_second_reason(wire: Wire) -> None:
    """Perl's server does not know WORK_WARNING; it answers each with an ERROR."""
    one, two = wire.given(b"H:1", b"H:2")
    wire.worker.send_fail(one, b"bad input")
    wire.receive(error(b"unknown_command", b""))
    wire.worker.send_fail(two, b"bad input")
    assert [kind.name for kind, _ in wire.take()] == ["WORK_WARNING", "WORK_FAIL", "WORK_FAIL"]


def test_an_error_for_a_result_is_not_taken_for_the_reply_to_a_grab(wire: Wire) -> None:
    wire.given(b"H:lap:1")
    wire.worker.send_grab()
    assert wire.receive(error()) == []
    assert wire.worker.grabs == 1
    assert wire.refused == [(b"JOB_NOT_FOUND", b"Job given in work result not found")]
    assert len(wire.receive(assign(b"H:lap:2"))) == 1
    assert wire.worker.failure is None


@pytest.mark.parametrize("state", ["awake", "sleeping", "grabbing"])
def test_an_error_at_any_time_is_counted_and_never_fatal(wire: Wire, state: str) -> None:
    put_to_sleep(wire)
    if state != "sleeping":
        wire.receive(NOOP)
    if state == "grabbing":
        wire.worker.send_grab()
    wire.receive(error() * 3)
    assert (wire.worker.errors, wire.worker.failure, wire.worker.state.value) == (3, None, state)


# The end of a job.


def test_a_job_gets_exactly_one_terminal_packet_whatever_is_called(wire: Wire) -> None:
    one, two, three = wire.given(b"H:1", b"H:2", b"H:3")
    for job, first in ((one, "send_complete"), (two, "send_exception")):
        assert getattr(wire.worker, first)(job, b"x")
        assert not wire.worker.send_complete(job, b"y")
        assert not wire.worker.send_exception(job, b"y")
        assert not wire.worker.send_fail(job)
        assert not wire.worker.send_update(job, PacketType.WORK_DATA, b"y")
    wire.worker.send_fail(three)
    wire.worker.send_complete(three, b"y")
    assert [(kind.name, body) for kind, body in wire.take()] == [
        ("WORK_COMPLETE", b"H:1\0x"),
        ("WORK_EXCEPTION", b"H:2\0x"),
        ("WORK_FAIL", b"H:3"),
    ]
    assert (wire.worker.ended, wire.worker.dropped) == (3, 9)
    assert not wire.worker.held


def test_a_job_that_was_reassigned_to_the_same_worker_is_ended_by_its_second_run(wire: Wire) -> None:
    """After a CAN_DO_TIMEOUT gearmand assigns the job again with the same handle, perhaps to the same worker."""
    first, second = wire.given(b"H:1", b"H:1")
    wire.worker.send_complete(first, b"late")
    assert wire.take() == []
    wire.worker.send_complete(second, b"right")
    assert wire.take() == [(PacketType.WORK_COMPLETE, b"H:1\0right")]


def test_a_job_does_not_outlive_its_connection(wire: Wire) -> None:
    (job,) = wire.given(b"H:1")
    wire.worker.close()
    wire.worker.send_update(job, PacketType.WORK_WARNING, b"w")
    wire.worker.send_complete(job, b"x")
    assert wire.take() == []
    assert wire.worker.dropped == 2
    assert not wire.worker.may_grab
    assert not wire.worker.may_sleep
    assert wire.receive(assign()) == []


def test_a_denominator_that_gearmand_would_drop_is_rejected() -> None:
    assert encode_status(b"1", b"99999999999") == b"1\x0099999999999"
    with pytest.raises(LocalProtocolError, match="at most 11 characters, got b'999999999999'"):
        encode_status(b"1", b"999999999999")


# Protocol violations of a job server.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (NO_JOB, "sent NO_JOB to a worker that is awake"),
        (assign(), "sent JOB_ASSIGN to a worker that is awake"),
        (encode(PacketType.ECHO_RES, b"", magic=RESPONSE), "unexpected ECHO_RES: no ECHO_REQ is pending"),
        (encode(PacketType.JOB_CREATED, b"H:1", magic=RESPONSE), "sent JOB_CREATED to a worker"),
        (encode(PacketType.WORK_COMPLETE, b"H:1", b"", magic=RESPONSE), "sent WORK_COMPLETE to a worker"),
        (encode(PacketType.NOOP, magic=REQUEST), "magic of a request"),
        (b"\0RES\0\0\0\x13\0\0\0\x01x", "ERROR needs 2 arguments"),
        (b"\0RES\0\0\0\x06\xff\xff\xff\xff", "announced 4294967295 bytes"),
        (b"HTTP/1.1 400", "must begin with"),
    ],
)
def test_an_invalid_packet_from_a_job_server_ends_the_connection(wire: Wire, data: bytes, reason: str) -> None:
    assert wire.receive(data) == []
    assert isinstance(wire.worker.failure, RemoteProtocolError)
    assert reason in str(wire.worker.failure)
    assert wire.worker.state is WorkerState.CLOSED
    assert wire.receive(NOOP) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (NO_JOB * 2, "unexpected NO_JOB: no GRAB_JOB is pending"),
        (assign() * 2, "unexpected JOB_ASSIGN: no GRAB_JOB is pending"),
        (assign(function=b"other"), "'other', which was not registered"),
        (b"\0RES\0\0\0\x1f\0\0\0\x04a\0b\0", "JOB_ASSIGN_UNIQ needs 4 arguments"),
        (b"\0RES\0\0\0\x0b\0\0\0\x03a\0b", "JOB_ASSIGN needs 3 arguments"),
    ],
)
def test_a_wrong_reply_to_a_grab_ends_the_connection(wire: Wire, data: bytes, reason: str) -> None:
    wire.worker.send_grab()
    assert wire.receive(data) == []
    assert reason in str(wire.worker.failure)


def test_each_packet_is_traced_in_both_directions() -> None:
    seen: list[tuple[str, int, bytes]] = []
    worker = WorkerProtocol(list[bytes]().append)
    worker.trace = lambda direction, kind, body: seen.append((direction, kind, body))
    worker.send_can_do(b"reverse")
    worker.send_grab()
    (job,) = worker.receive_data(assign(), 0.0)
    worker.send_complete(job, b"x")
    assert seen == [
        (">", PacketType.CAN_DO, b"reverse"),
        (">", PacketType.GRAB_JOB_UNIQ, b""),
        ("<", PacketType.JOB_ASSIGN_UNIQ, b"H:lap:1\0reverse\0u1\0test"),
        (">", PacketType.WORK_COMPLETE, b"H:lap:1\0x"),
    ]


# Properties.

PACKETS = st.one_of(
    st.sampled_from([NO_JOB, NOOP, UNKNOWN_TYPE, error(), assign(b"H:1"), assign(b"H:2"), assign(function=b"f2")]),
    st.builds(
        lambda kind, body: b"\0RES" + kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body,
        st.integers(0, 50),
        st.binary(max_size=20),
    ),
    st.binary(max_size=30),
)
ACTIONS = st.sampled_from(["grab", "sleep", "echo", "complete", "fail", "exception"])


@given(st.lists(st.one_of(PACKETS, ACTIONS), max_size=60))
def test_whatever_a_job_server_sends_no_error_is_raised_and_each_job_ends_once(script: list[bytes | str]) -> None:
    wire = Wire(b"reverse")
    worker, jobs = wire.worker, list[Assignment]()
    for step in script:
        if isinstance(step, bytes):
            jobs += wire.receive(step, now=1.0)
        elif step == "grab" and worker.may_grab:
            worker.send_grab()
        elif step == "sleep" and worker.may_sleep:
            worker.send_pre_sleep(1.0)
        elif step == "echo" and worker.state is not WorkerState.CLOSED:
            worker.send_probe()
        elif step == "complete" and jobs:
            worker.send_complete(jobs[-1], b"")
        elif step == "exception" and jobs:
            worker.send_exception(jobs[len(jobs) // 2], b"")
        elif step == "fail" and jobs:
            worker.send_fail(jobs[0])
        assert worker.grabs >= 0
        assert (worker.grabs > 0) == (worker.state is WorkerState.GRABBING)
    sent = wire.take()
    final = PacketType.WORK_FAIL if (PacketType.GRAB_JOB, b"") in sent else PacketType.WORK_EXCEPTION
    ends = Counter(
        body.partition(b"\0")[0]
        for kind, body in sent
        if kind in (PacketType.WORK_COMPLETE, PacketType.WORK_FAIL, final)
    )
    given = Counter(job.handle for job in jobs)
    assert all(ends[handle] <= given[handle] for handle in ends)
    order = [kind for kind, _ in sent if kind in (PacketType.GRAB_JOB, PacketType.GRAB_JOB_UNIQ, PacketType.PRE_SLEEP)]
    assert all(pair != (PacketType.PRE_SLEEP, PacketType.PRE_SLEEP) for pair in pairwise(order))
