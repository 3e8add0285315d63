"""The same behaviour of gearmand and our job server, packet by packet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from geartrain.protocol.packets import PacketType
from tests.support.eventually import wait_until
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.wire import Wire, packet

Connect = Callable[[], Wire]


@pytest.fixture
def connect(job_server: AnyJobServer) -> Iterator[Connect]:
    """A function that connects to the job server; all connections are closed after the test."""
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(job_server.port))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


def test_a_job_goes_to_a_worker_and_its_result_to_the_client(connect: Connect) -> None:
    client, worker = connect(), connect()
    handle = client.submit(b"reverse", b"", b"hello")
    worker.send(PacketType.CAN_DO, b"reverse")
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.JOB_ASSIGN, handle, b"reverse", b"hello")
    worker.send(PacketType.WORK_COMPLETE, handle, b"olleh")
    client.expect(PacketType.WORK_COMPLETE, handle, b"olleh")
    client.nothing_more()
    worker.nothing_more()


def test_a_restarted_server_counts_its_handles_from_one(job_server: AnyJobServer) -> None:
    with Wire(job_server.port) as before:
        handle = before.submit(b"f")
        assert handle.endswith(b":1")
        job_server.restart()
        assert before.at_end()
    with Wire(job_server.port) as after:
        assert after.submit(b"f") == handle


def assign(worker: Wire, function: bytes = b"f") -> bytes:
    """Register a worker for a function, grab a job, and return its handle."""
    worker.send(PacketType.CAN_DO, function)
    worker.send(PacketType.GRAB_JOB)
    kind, body = worker.receive()
    assert kind is PacketType.JOB_ASSIGN
    return body.partition(b"\0")[0]


def wait_for_peers(admin: Wire, peers: int) -> None:
    """Wait until the server has at most this many connections."""
    wait_until(lambda: len(admin.ask(b"workers")) <= peers)


def wait_until_abandoned(admin: Wire, handle: bytes) -> None:
    """Wait until no client waits for a job. gearmand notices a closed connection with a delay."""
    wait_until(lambda: not any(line.startswith(handle + b"\t0\t0\t") for line in admin.ask(b"show jobs")))


def test_replies_do_not_depend_on_how_the_bytes_arrive(connect: Connect) -> None:
    client, worker = connect(), connect()
    stream = packet(PacketType.SUBMIT_JOB, b"f", b"", b"work\0load") + b"status\r\n" + packet(PacketType.ECHO_REQ, b"x")
    for position in range(len(stream)):
        client.socket.sendall(stream[position : position + 1])
    kind, handle = client.receive()
    assert kind is PacketType.JOB_CREATED
    assert client.ask(b"status")[:1] == [b"f\t1\t0\t0\n"]
    client.expect(PacketType.ECHO_RES, b"x")
    assert assign(worker) == handle


def test_replies_keep_the_order_of_the_requests(connect: Connect) -> None:
    client = connect()
    client.socket.sendall(
        b"".join(
            packet(PacketType.SUBMIT_JOB_BG, b"f", b"%d" % number, b"")
            + packet(PacketType.ECHO_REQ, b"%d" % number)
            + packet(PacketType.SUBMIT_JOB, b"f", b"u" * 65, b"")
            + packet(PacketType.GET_STATUS_UNIQUE, b"%d" % number)
            for number in range(500)
        )
    )
    for number in range(500):
        assert client.receive()[0] is PacketType.JOB_CREATED
        client.expect(PacketType.ECHO_RES, b"%d" % number)
        assert client.receive()[0] is PacketType.ERROR
        client.expect(PacketType.STATUS_RES_UNIQUE, b"%d" % number, b"1", b"0", b"0", b"0", b"0")
    client.nothing_more()


def test_a_long_workload_and_result_arrive_complete(connect: Connect) -> None:
    client, worker = connect(), connect()
    workload = bytes(range(256)) * 20_000
    handle = client.submit(b"f", b"", workload)
    worker.send(PacketType.CAN_DO, b"f")
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.JOB_ASSIGN, handle, b"f", workload)
    worker.send(PacketType.WORK_COMPLETE, handle, workload[::-1])
    client.expect(PacketType.WORK_COMPLETE, handle, workload[::-1])


def test_a_peer_that_does_not_read_does_not_delay_others(connect: Connect) -> None:
    slow, client = connect(), connect()
    for _ in range(30):
        slow.send(PacketType.ECHO_REQ, bytes(100_000))
        client.nothing_more()
    for _ in range(30):
        slow.expect(PacketType.ECHO_RES, bytes(100_000))


def test_a_client_that_leaves_does_not_affect_other_clients_of_the_job(connect: Connect) -> None:
    leaver, client, worker, admin = connect(), connect(), connect(), connect()
    handle = leaver.submit(b"f", b"unique")
    assert client.submit(b"f", b"unique") == handle
    leaver.close()
    wait_for_peers(admin, 3)
    assert assign(worker) == handle
    worker.send(PacketType.WORK_COMPLETE, handle, b"result")
    client.expect(PacketType.WORK_COMPLETE, handle, b"result")


def test_a_job_that_nobody_waits_for_is_not_run(connect: Connect) -> None:
    leaver, worker, admin = connect(), connect(), connect()
    handle = leaver.submit(b"f", b"unique")
    leaver.close()
    wait_until_abandoned(admin, handle)
    worker.send(PacketType.CAN_DO, b"f")
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.NO_JOB)
    assert admin.ask(b"show jobs") == []


def test_a_running_job_that_nobody_waits_for_ends_quietly(connect: Connect) -> None:
    leaver, worker, admin = connect(), connect(), connect()
    handle = leaver.submit(b"f", b"unique")
    assert assign(worker) == handle
    leaver.close()
    wait_until_abandoned(admin, handle)
    assert admin.ask(b"show jobs") == [handle + b"\t0\t1\t0\n"]
    worker.send(PacketType.WORK_DATA, handle, b"data")
    worker.send(PacketType.WORK_COMPLETE, handle, b"result")
    worker.nothing_more()
    assert admin.ask(b"status") == [b"f\t0\t0\t1\n"]


def test_a_running_job_that_nobody_waits_for_is_not_run_again(connect: Connect) -> None:
    leaver, worker, admin = connect(), connect(), connect()
    assert leaver.submit(b"f") == assign(worker)
    leaver.close()
    wait_for_peers(admin, 2)
    worker.close()
    wait_for_peers(admin, 1)
    admin.send(PacketType.CAN_DO, b"f")
    admin.send(PacketType.GRAB_JOB)
    admin.expect(PacketType.NO_JOB)
    assert admin.ask(b"show jobs") == []
    assert admin.ask(b"status") == [b"f\t0\t0\t1\n"]


def test_a_client_that_joins_a_running_job_gets_its_result(connect: Connect) -> None:
    leaver, worker, client, admin = connect(), connect(), connect(), connect()
    handle = leaver.submit(b"f", b"unique")
    assert assign(worker) == handle
    leaver.close()
    wait_for_peers(admin, 3)
    assert client.submit(b"f", b"unique") == handle
    worker.send(PacketType.WORK_COMPLETE, handle, b"result")
    client.expect(PacketType.WORK_COMPLETE, handle, b"result")


def test_a_background_job_outlives_its_client(connect: Connect) -> None:
    client, worker, admin = connect(), connect(), connect()
    client.send(PacketType.SUBMIT_JOB_BG, b"f", b"", b"workload")
    client.close()
    wait_until(lambda: admin.ask(b"status"))
    worker.send(PacketType.CAN_DO, b"f")
    worker.send(PacketType.GRAB_JOB)
    kind, body = worker.receive()
    assert (kind, body.split(b"\0")[1:]) == (PacketType.JOB_ASSIGN, [b"f", b"workload"])


def test_the_job_of_a_lost_worker_goes_to_a_sleeping_worker(connect: Connect) -> None:
    client, worker, other, admin = connect(), connect(), connect(), connect()
    handle = client.submit(b"f", b"unique", b"workload")
    assert assign(worker) == handle
    other.send(PacketType.CAN_DO, b"f")
    other.send(PacketType.PRE_SLEEP)
    other.nothing_more()
    worker.close()
    other.expect(PacketType.NOOP)
    assert admin.ask(b"show jobs") == [handle + b"\t1\t0\t0\n"]
    other.send(PacketType.GRAB_JOB_UNIQ)
    other.expect(PacketType.JOB_ASSIGN_UNIQ, handle, b"f", b"unique", b"workload")
    other.send(PacketType.WORK_COMPLETE, handle, b"result")
    client.expect(PacketType.WORK_COMPLETE, handle, b"result")


def test_a_job_fails_after_the_allowed_number_of_lost_workers(start_job_server: JobServerStarter) -> None:
    port = start_job_server(job_retries=2).port
    with Wire(port) as client, Wire(port) as admin:
        handle = client.submit(b"f", b"unique")
        for losses in (1, 2):
            with Wire(port) as worker:
                assert assign(worker) == handle
            wait_for_peers(admin, 2)
            assert len(admin.ask(b"show jobs")) == 2 - losses
        client.expect(PacketType.WORK_FAIL, handle)
        client.nothing_more()


def test_exceptions_can_be_forwarded_to_all_clients(start_job_server: JobServerStarter) -> None:
    port = start_job_server(exceptions=True).port
    with Wire(port) as client, Wire(port) as worker:
        handle = client.submit(b"f")
        assert assign(worker) == handle
        worker.send(PacketType.WORK_EXCEPTION, handle, b"why")
        client.expect(PacketType.WORK_EXCEPTION, handle, b"why")


def test_with_round_robin_the_functions_of_a_worker_are_served_in_turn(start_job_server: JobServerStarter) -> None:
    """A function without a job keeps its place, and each worker has a separate order."""
    port = start_job_server(round_robin=True).port
    with Wire(port) as worker, Wire(port) as other:
        for name in (b"f1", b"f2", b"f3", b"f4", b"f5", b"h1"):
            worker.submit(name[:1], b"", name)
        for function in (b"f", b"g", b"h"):
            worker.send(PacketType.CAN_DO, function)
        assert [grab_workload(worker) for _ in range(4)] == [b"h1", b"f1", b"f2", b"f3"]
        for name in (b"g1", b"g2", b"h2", b"h3"):
            worker.submit(name[:1], b"", name)
        worker.send(PacketType.SUBMIT_JOB_HIGH, b"f", b"", b"urgent")
        worker.receive()
        assert grab_workload(worker) == b"g1"
        for function in (b"h", b"f"):
            other.send(PacketType.CAN_DO, function)
        assert [grab_workload(other) for _ in range(2)] == [b"urgent", b"h2"]
        worker.send(PacketType.CANT_DO, b"h")
        worker.send(PacketType.CAN_DO, b"h")
        assert [grab_workload(worker) for _ in range(3)] == [b"h3", b"f4", b"g2"]


def grab_workload(worker: Wire) -> bytes:
    """Grab a job, and return its workload."""
    worker.send(PacketType.GRAB_JOB)
    kind, body = worker.receive()
    assert kind is PacketType.JOB_ASSIGN
    return body.split(b"\0")[2]


def test_a_cancelled_running_job_fails_immediately_and_its_worker_is_not_stopped(connect: Connect) -> None:
    client, worker, admin = connect(), connect(), connect()
    handle = client.submit(b"f", b"unique")
    assert assign(worker) == handle
    assert admin.ask_line(b"cancel job " + handle) == b"OK\r\n"
    client.expect(PacketType.WORK_FAIL, handle)
    assert admin.ask(b"status") == [b"f\t1\t1\t1\n"]
    worker.send(PacketType.WORK_COMPLETE, handle, b"result")
    worker.nothing_more()
    assert admin.ask(b"status") == [b"f\t0\t0\t1\n"]


def test_a_job_that_takes_too_long_goes_to_another_worker(connect: Connect) -> None:
    """The timeout is in milliseconds; the minimum is one second."""
    client, worker, other, admin = connect(), connect(), connect(), connect()
    handle = client.submit(b"f", b"unique", b"workload")
    worker.send(PacketType.CAN_DO_TIMEOUT, b"f", b"5")
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.JOB_ASSIGN, handle, b"f", b"workload")
    other.send(PacketType.CAN_DO, b"f")
    other.send(PacketType.PRE_SLEEP)
    other.expect(PacketType.NOOP)
    grabbed = PacketType.NO_JOB, b""
    deadline = time.monotonic() + 5
    while grabbed == (PacketType.NO_JOB, b"") and time.monotonic() < deadline:
        other.send(PacketType.GRAB_JOB)  # gearmand may wake a sleeper just before it has queued the job again
        grabbed = other.receive()
    assert grabbed == (PacketType.JOB_ASSIGN, b"\0".join((handle, b"f", b"workload")))
    worker.send(PacketType.WORK_COMPLETE, handle, b"late")
    worker.expect(PacketType.ERROR, b"JOB_NOT_FOUND", b"Job given in work result not found")
    other.send(PacketType.WORK_COMPLETE, handle, b"result")
    client.expect(PacketType.WORK_COMPLETE, handle, b"result")
    assert admin.ask(b"status") == [b"f\t0\t0\t2\n"]


def test_a_worker_that_goes_to_sleep_stops_the_timers_of_its_jobs(connect: Connect) -> None:
    """libgearman's worker relies on this. The timer of the other worker is set later, and expires."""
    client, sleeper, other, admin = connect(), connect(), connect(), connect()
    kept, lost = client.submit(b"f"), client.submit(b"g")
    for worker, function, handle in ((sleeper, b"f", kept), (other, b"g", lost)):
        worker.send(PacketType.CAN_DO_TIMEOUT, function, b"1000")
        worker.send(PacketType.GRAB_JOB)
        worker.expect(PacketType.JOB_ASSIGN, handle, function, b"")
        if worker is sleeper:
            worker.send(PacketType.PRE_SLEEP)
            worker.nothing_more()
    wait_until(lambda: lost + b"\t1\t0\t0\n" in admin.ask(b"show jobs"))
    assert kept + b"\t0\t0\t0\n" in admin.ask(b"show jobs")
    sleeper.send(PacketType.WORK_COMPLETE, kept, b"result")
    client.expect(PacketType.WORK_COMPLETE, kept, b"result")


def test_a_delayed_job_can_be_grabbed_when_it_is_due(connect: Connect) -> None:
    client, worker = connect(), connect()
    worker.send(PacketType.CAN_DO, b"f")
    client.send(PacketType.SUBMIT_JOB_EPOCH, b"f", b"unique", b"%d" % (time.time() + 2), b"workload")
    kind, handle = client.receive()
    assert kind is PacketType.JOB_CREATED
    assert client.submit(b"f", b"unique") == handle
    worker.send(PacketType.GRAB_JOB)
    worker.expect(PacketType.NO_JOB)

    def grabbed() -> bool:
        worker.send(PacketType.GRAB_JOB)
        return worker.receive() == (PacketType.JOB_ASSIGN, b"\0".join([handle, b"f", b"workload"]))

    wait_until(grabbed)
    worker.send(PacketType.WORK_COMPLETE, handle, b"result")
    client.expect(PacketType.WORK_COMPLETE, handle, b"result")


def test_workers_are_listed_with_what_they_can_do(connect: Connect) -> None:
    worker, admin = connect(), connect()
    worker.send(PacketType.SET_CLIENT_ID, b"it is me")
    for function in (b"f", b"g", b"h"):
        worker.send(PacketType.CAN_DO, function)
    worker.nothing_more()
    wait_until(lambda: len(admin.ask(b"workers")) == 2)  # gearmand notices a closed connection with a delay
    rows = [row.split(b" ", 1) for row in admin.ask(b"workers")]
    assert all(number.isdigit() for number, _ in rows)
    assert sorted(row for _, row in rows) == [b"127.0.0.1 - :\n", b"127.0.0.1 it is me : h g f\n"]
