"""The client."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from geartrain import WorkerJob
from geartrain.blocking import Admin, Worker
from geartrain.compat import gearman
from geartrain.protocol.packets import HEADER, REQUEST, PacketType
from tests.compat.conftest import JSONEncoder, Text
from tests.support.eventually import wait_until
from tests.support.forked_process import finish, fork
from tests.support.gearmand import free_port
from tests.support.job_server import AnyJobServer


@contextmanager
def slow_function(job_server: AnyJobServer, name: str = "slow") -> Iterator[threading.Event]:
    """A worker for a function whose jobs wait for the event that is returned."""
    release = threading.Event()
    worker = Worker(job_server.address, concurrency=2)

    @worker.function(name)
    def wait(job: WorkerJob) -> bytes:
        job.send_status(1, 2)
        release.wait(10)
        return job.workload.upper()

    with worker:
        try:
            yield release
        finally:
            release.set()


@pytest.mark.usefixtures("worker")
def test_a_job_is_done_when_its_submission_returns(client: Any, native: Text) -> None:
    request = client.submit_job(native("reverse"), native("abc"))
    assert request.complete
    assert not request.timed_out
    assert request.state == "COMPLETE"
    assert request.result == native("cba")
    assert request.job.handle.startswith(native("H:"))
    assert request.job.task == native("reverse")
    assert request.job.data == native("abc")
    assert isinstance(request.job.unique, str)
    assert len(request.job.unique) == 32
    assert request.job.to_dict() == {
        "task": native("reverse"),
        "job_handle": request.job.handle,
        "unique": request.job.unique,
        "data": native("abc"),
    }


@pytest.mark.usefixtures("worker")
def test_text_is_accepted_and_encoded_as_utf_8_in_both_flavours(client: Any, native: Text) -> None:
    reversed_bytes = "\N{EURO SIGN}".encode()[::-1]
    expected = reversed_bytes if native("") == b"" else reversed_bytes.decode("utf-8", "surrogateescape")
    assert client.submit_job("reverse", "\N{EURO SIGN}").result == expected
    request = client.submit_job("reverse", "abc", unique="key", priority=gearman.PRIORITY_HIGH)
    assert request.result == native("cba")
    assert request.job.unique == "key"


@pytest.mark.usefixtures("worker")
def test_a_failure_is_a_state(client: Any, native: Text) -> None:
    request = client.submit_job(native("fail"), native(""))
    assert request.complete
    assert request.state == "FAILED"
    assert request.result is request.exception is None


@pytest.mark.usefixtures("worker")
def test_an_exception_of_the_worker_is_an_attribute(client: Any, native: Text) -> None:
    request = client.submit_job(native("raise"), native(""))
    assert request.state == "FAILED"
    assert request.exception == native("no such image")


@pytest.mark.usefixtures("worker")
def test_updates_are_collected(client: Any, native: Text) -> None:
    request = client.submit_job(native("stream"), native(""))
    assert list(request.data_updates) == [native("part 1"), native("part 2")]
    assert list(request.warning_updates) == [native("soon")]
    status = dict(request.status)
    assert status.pop("time_received") > 0
    assert status == {
        "handle": request.job.handle, "known": True, "running": True, "numerator": 3, "denominator": 4
    }  # fmt: skip
    assert list(request.status_updates) == [(3, 4)]
    assert request.server_status is request.status


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("kind", [list, tuple, set])
def test_several_requests_are_returned_in_the_collection_that_was_given(client: Any, native: Text, kind: Any) -> None:
    jobs = [{"task": native("reverse"), "data": native(text)} for text in ("abc", "def")]
    requests = client.submit_multiple_jobs(jobs, wait_until_complete=False, poll_timeout=10)
    assert [request.state in {"CREATED", "COMPLETE"} for request in requests] == [True, True]
    given = kind(requests)
    assert client.wait_until_jobs_completed(given) is given
    assert {request.result for request in given} == {native("cba"), native("fed")}


def test_several_jobs_must_be_a_list_tuple_or_set(client: Any) -> None:
    for method in (
        client.submit_multiple_jobs,
        client.submit_multiple_requests,
        client.wait_until_jobs_accepted,
        client.wait_until_jobs_completed,
        client.get_job_statuses,
        client.wait_until_job_statuses_received,
    ):
        with pytest.raises(AssertionError, match="expected a list, tuple or set"):
            method(iter([]))


def test_a_wait_that_takes_too_long_can_be_repeated(client: Any, native: Text, job_server: AnyJobServer) -> None:
    request = client.submit_job(native("slow"), native("abc"), wait_until_complete=False)
    for _ in range(2):
        client.submit_multiple_requests([request], poll_timeout=0.01)
        assert request.timed_out
        assert not request.complete
        assert request.state == "CREATED"
        assert request.result is None
    with Admin(job_server.address) as admin:
        assert len(admin.show_jobs()) == 1, "nothing is sent again"
    with slow_function(job_server) as release:
        release.set()
        client.wait_until_jobs_completed([request], poll_timeout=10)
    assert not request.timed_out
    assert request.result == native("ABC")


def test_without_waiting_a_job_is_accepted_when_its_submission_returns(client: Any, native: Text) -> None:
    request = client.submit_job(native("nobody"), native("abc"), wait_until_complete=False)
    assert request.state == "CREATED"
    assert request.job.handle.startswith(native("H:"))
    assert not request.timed_out
    assert not request.complete


def test_a_background_job_is_complete_when_it_is_accepted(client: Any, native: Text, job_server: AnyJobServer) -> None:
    request = client.submit_job(native("f"), native("abc"), background=True)
    assert request.complete
    assert request.state == "CREATED"
    assert request.result is None
    with Admin(job_server.address) as admin:
        assert admin.status()[0].total == 1


def test_priorities_order_the_queue(client: Any, flavour: Any, native: Text, job_server: AnyJobServer) -> None:
    for priority in (flavour.PRIORITY_LOW, flavour.PRIORITY_NONE, flavour.PRIORITY_HIGH):
        client.submit_job(native("f"), native(str(priority)), priority=priority, background=True)
    found: list[bytes] = []
    worker = Worker(job_server.address)

    @worker.function("f")
    def collect(job: WorkerJob) -> None:
        found.append(job.workload)
        if len(found) == 3:
            worker.stop()

    worker.run()
    assert found == [b"HIGH", b"None", b"LOW"]


def test_equal_uniques_are_one_job(client: Any, native: Text, job_server: AnyJobServer) -> None:
    jobs = [{"task": native("f"), "data": native("abc"), "unique": native("key")}] * 2
    first, second = client.submit_multiple_jobs(jobs, wait_until_complete=False)
    assert first.state == second.state == "CREATED"
    assert first.job.handle == second.job.handle
    with slow_function(job_server, "f") as release:
        release.set()
        client.wait_until_jobs_completed([first, second])
    assert first.result == second.result == native("ABC")


def test_the_status_of_a_job_can_be_polled(client: Any, native: Text, job_server: AnyJobServer) -> None:
    request = client.submit_job(native("slow"), native("abc"), wait_until_complete=False)
    assert client.get_job_status(request) is request
    assert request.status["known"]
    assert not request.status["running"]
    assert request.status["handle"] == request.job.handle
    with slow_function(job_server) as release:
        wait_until(lambda: client.get_job_status(request, poll_timeout=10).status["running"])
        assert not request.timed_out
        wait_until(lambda: client.get_job_status(request).status["denominator"] == 2)
        release.set()
        wait_until(lambda: client.get_job_status(request).complete)
    assert request.result == native("ABC")
    assert not client.get_job_status(request).status["known"]


def test_a_request_that_was_not_submitted_has_no_status(client: Any, flavour: Any, native: Text) -> None:
    job = flavour.job.GearmanJob(None, None, native("f"), "key", native(""))
    with pytest.raises(flavour.errors.InvalidClientState, match="no job server has accepted it"):
        client.get_job_status(flavour.job.GearmanJobRequest(job))


@pytest.mark.usefixtures("worker")
def test_a_request_can_be_made_by_hand_and_submitted_again(client: Any, flavour: Any, native: Text) -> None:
    job = flavour.job.GearmanJob(None, None, native("reverse"), native("key"), native("abc"))
    request = flavour.job.GearmanJobRequest(job, max_attempts=2)
    client.submit_multiple_requests([request])
    assert request.result == native("cba")
    request.reset()
    assert request.state == "UNKNOWN"
    client.submit_multiple_requests([request])
    assert request.result == native("cba")
    request.reset()
    with pytest.raises(flavour.errors.ExceededConnectionAttempts, match="Exceeded 2 connection attempt"):
        client.submit_multiple_requests([request])


@pytest.mark.usefixtures("worker")
def test_an_encoder_sends_and_returns_objects(flavour: Any, native: Text, job_server: AnyJobServer) -> None:
    class Client(flavour.GearmanClient):  # type: ignore[misc]
        data_encoder = JSONEncoder

    client = Client([job_server.address])
    request = client.submit_job(native("reverse"), 101)
    assert request.result == 101
    assert request.job.data == 101
    assert client.submit_job(native("f"), None, background=True).complete
    client.shutdown()


@pytest.mark.parametrize("data", [None, 5, {"a": 1}, ["abc"]])
def test_without_an_encoder_other_objects_are_refused_before_anything_is_sent(
    client: Any, native: Text, job_server: AnyJobServer, data: object
) -> None:
    with pytest.raises(TypeError, match="set a data_encoder to send other objects"):
        client.submit_job(native("f"), data)
    with Admin(job_server.address) as admin:
        assert admin.status() == []


def test_an_invalid_argument_is_an_error(client: Any, native: Text) -> None:
    for task in (5, None):
        with pytest.raises(TypeError, match=f"expected bytes or text, got {task}"):
            client.submit_job(task, native(""))
    with pytest.raises(TypeError, match="expected bytes or text, got 5"):
        client.submit_job(native("f"), native(""), unique=5)
    with pytest.raises(ValueError, match="a priority is None, 'LOW' or 'HIGH', got 'URGENT'"):
        client.submit_job(native("f"), native(""), priority="URGENT")
    with pytest.raises(ValueError, match="unique"):
        client.submit_job(native("f"), native(""), unique=native("x" * 65))


@pytest.mark.usefixtures("worker")
def test_a_result_that_cannot_be_decoded_is_an_error_of_this_job_alone(client: Any, native: Text) -> None:
    client.data_encoder = JSONEncoder
    with pytest.raises(ValueError, match="Expecting value"):
        client.submit_job(native("reverse"), [1])
    assert client.submit_job(native("reverse"), 1).result == 1


# Unreachable job servers.


def test_without_any_job_server_a_submission_fails_immediately(flavour: Any, native: Text) -> None:
    client = flavour.GearmanClient([f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
    request = client.job_request_class(client.job_class(None, None, native("f"), "key", native("")))
    with pytest.raises(flavour.errors.ServerUnavailable, match="Found no valid connections"):
        client.submit_multiple_requests([request])
    assert request.state == "UNKNOWN"
    with pytest.raises(flavour.errors.ServerUnavailable):
        flavour.GearmanClient().submit_job(native("f"), native(""))
    client.shutdown()


@pytest.mark.usefixtures("worker")
def test_an_unreachable_job_server_is_skipped(flavour: Any, native: Text, job_server: AnyJobServer) -> None:
    away = f"127.0.0.1:{free_port()}"
    client = flavour.GearmanClient([away, job_server.address])
    results = [client.submit_job(native("reverse"), native(text)).result for text in "abcdef"]
    assert results == [native(text) for text in "abcdef"]
    client.shutdown()


def test_a_job_is_lost_with_its_job_server_and_not_sent_again(
    client: Any, flavour: Any, native: Text, job_server: AnyJobServer
) -> None:
    request = client.submit_job(native("nobody"), native("abc"), wait_until_complete=False, max_retries=5)
    job_server.kill()
    with pytest.raises(flavour.errors.ServerUnavailable):
        client.wait_until_jobs_completed([request])
    assert request.state == "UNKNOWN"
    assert not request.timed_out
    job_server.restart()
    other = client.submit_job(native("nobody"), native("def"), wait_until_complete=False)
    assert other.state == "CREATED"
    with Admin(job_server.address) as admin:
        assert [job.handle for job in admin.show_jobs()] == [
            other.job.handle if isinstance(other.job.handle, str) else other.job.handle.decode()
        ]


def test_a_lost_job_is_a_state_while_another_job_server_is_connected(
    flavour: Any, native: Text, start_job_server: Any
) -> None:
    servers = [start_job_server(), start_job_server()]
    client = flavour.GearmanClient([server.address for server in servers])
    requests: list[Any] = []
    while len({request.job.connection for request in requests}) < 2:
        requests.append(client.submit_job(native("nobody"), native(""), wait_until_complete=False))
    lost = requests[0].job.connection.gearman_port
    next(server for server in servers if server.port == lost).kill()
    affected = [request for request in requests if request.job.connection.gearman_port == lost]
    client.wait_until_jobs_completed(affected)
    assert {request.state for request in affected} == {"UNKNOWN"}
    assert {request.state for request in requests if request not in affected} == {"CREATED"}
    client.shutdown()


@contextmanager
def server_that_hangs_up() -> Iterator[tuple[str, list[bytes]]]:
    """A server that closes each connection when it has received a job; yields its address and the submissions."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as stream:
                    while header := stream.read(HEADER.size):
                        magic, kind, size = HEADER.unpack(header)
                        assert magic == REQUEST
                        body = stream.read(size)
                        if kind == PacketType.SUBMIT_JOB:
                            received.append(body)
                            break

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", received
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # unlike close(), it ends accept()
            thread.join()


@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_job_that_was_never_accepted_is_sent_again_as_often_as_allowed(
    flavour: Any, native: Text, max_retries: int
) -> None:
    with server_that_hangs_up() as (address, received):
        client = flavour.GearmanClient([address])
        with pytest.raises(flavour.errors.ExceededConnectionAttempts):
            client.submit_job(native("f"), native("abc"), max_retries=max_retries)
        client.shutdown()
    assert len(received) == max_retries + 1


def test_a_lost_job_is_not_sent_again_while_another_one_waits_to_be_accepted(
    flavour: Any, native: Text, job_server: AnyJobServer
) -> None:
    states: dict[Any, list[str]] = {}

    class Request(flavour.job.GearmanJobRequest):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "state":
                states.setdefault(self, []).append(value)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = flavour.GearmanClient([job_server.address, f"127.0.0.1:{silent.getsockname()[1]}"])
        client.job_request_class = Request
        accepted, waiting = (request_for(client, connection, max_attempts=3) for connection in client.connection_list)

        def end_connections() -> None:
            with Admin(job_server.address) as admin:
                wait_until(admin.show_jobs)
            job_server.kill()
            wait_until(lambda: len(states[accepted]) > 3)
            silent.close()

        thread = threading.Thread(target=end_connections)
        thread.start()
        with pytest.raises((flavour.errors.ServerUnavailable, flavour.errors.ExceededConnectionAttempts)):
            client.submit_multiple_requests([accepted, waiting])
        thread.join()
        client.shutdown()
    assert states[accepted] == ["UNKNOWN", "PENDING", "CREATED", "UNKNOWN"]


def request_for(client: Any, connection: Any, **options: Any) -> Any:
    """Return a request that the client sends to a job server."""
    for number in itertools.count():
        job = client.job_class(None, None, "nobody", str(number), "")
        request = client.job_request_class(job, **options)
        if client.establish_request_connection(request) is connection:
            return request
    raise AssertionError("count() does not end")


def test_a_background_job_that_the_job_server_refuses_is_not_waited_for(
    client: Any, native: Text, job_server: AnyJobServer
) -> None:
    with Admin(job_server.address) as admin:
        client.submit_job(native("f"), native(""), background=True)
        admin.set_max_queue("f", 1)
    request = client.submit_job(native("f"), native(""), background=True)
    assert request.state == "FAILED"
    assert not request.timed_out


@pytest.mark.usefixtures("worker")
def test_the_cost_of_waiting_for_many_jobs_is_linear(client: Any, flavour: Any, native: Text) -> None:
    class Request(flavour.job.GearmanJobRequest):  # type: ignore[misc]
        looks = 0

        @property
        def complete(self) -> bool:
            Request.looks += 1
            return bool(super().complete)

    client.job_request_class = Request
    requests = client.submit_multiple_jobs([{"task": native("reverse"), "data": native("")}] * 500)
    assert {request.state for request in requests} == {"COMPLETE"}
    assert Request.looks < 500 * 8, "one for each event, and one for each request"


def test_a_job_that_the_job_server_refuses_has_failed(
    client: Any, flavour: Any, native: Text, job_server: AnyJobServer
) -> None:
    client.submit_job(native("f"), native(""), background=True)
    admin = flavour.GearmanAdminClient([job_server.address])
    assert admin.send_maxqueue("f", 1) == "OK"
    admin.shutdown()
    request = client.submit_job(native("f"), native(""), wait_until_complete=False)
    assert request.state == "FAILED"
    assert native("QUEUE_ERROR") in request.exception
    assert client.submit_job(native("g"), native(""), background=True).complete, "the next reply has its own request"


def test_the_status_of_a_job_on_an_unreachable_job_server_is_an_error(
    client: Any, flavour: Any, native: Text, job_server: AnyJobServer
) -> None:
    request = client.submit_job(native("nobody"), native(""), wait_until_complete=False)
    job_server.kill()
    with pytest.raises(flavour.errors.ServerUnavailable):
        client.get_job_status(request)


def test_a_status_that_has_not_arrived_can_be_waited_for_later(
    client: Any, native: Text, job_server: AnyJobServer
) -> None:
    request = client.submit_job(native("nobody"), native(""), wait_until_complete=False)
    client.get_job_status(request, poll_timeout=0)
    client.wait_until_job_statuses_received([request], poll_timeout=10)
    assert not request.timed_out
    assert request.status["known"]


def test_a_forked_process_has_connections_of_its_own_and_none_of_the_requests(
    client: Any, native: Text, worker: Worker
) -> None:
    request = client.submit_job(native("nobody"), native(""), wait_until_complete=False)

    def work() -> str:
        client.wait_until_jobs_completed([request])
        return f"{request.state} {client.submit_job(native('reverse'), native('abc')).state}"

    assert finish(*fork(work)) == "UNKNOWN COMPLETE"
    assert client.wait_until_jobs_completed([request], poll_timeout=0.01) == [request]
    assert request.state == "CREATED"


def test_a_forked_process_does_not_know_what_became_of_pending_requests(flavour: Any, native: Text) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = flavour.GearmanClient([f"127.0.0.1:{silent.getsockname()[1]}"])
        request = client.submit_job(native("f"), native(""), poll_timeout=0.01)
        assert request.state == "PENDING"

        def wait() -> str:
            client.wait_until_jobs_completed([request])
            return f"{request.state} {request.exception}"

        assert finish(*fork(wait)) == "UNKNOWN None"
        client.shutdown()


# Polling.


def test_a_program_may_poll_by_itself(client: Any, native: Text) -> None:
    """Archivematica's server does."""
    request = client.submit_job(native("f"), native(""), wait_until_complete=False, background=True)
    calls: list[bool] = []

    def go_on(any_activity: bool) -> bool:
        calls.append(any_activity)
        return True

    assert client.poll_connections_until_stopped(client.connection_list, go_on, timeout=0.01)
    assert calls[0] is False
    assert not client.poll_connections_until_stopped(client.connection_list, lambda _: not request.complete)
    assert client.request_to_rotating_connection_queue.pop(request, None) is not None
    assert client.request_to_rotating_connection_queue.pop(request, None) is None


def test_polling_without_a_connection_is_an_error(client: Any, flavour: Any) -> None:
    with pytest.raises(flavour.errors.ServerUnavailable):
        client.poll_connections_until_stopped(client.connection_list, lambda _: True)


def test_after_a_shutdown_requests_remain_and_the_client_connects_again(client: Any, native: Text) -> None:
    """Archivematica's dashboard reads them only then."""
    request = client.submit_job(native("nobody"), native("abc"), wait_until_complete=False)
    client.wait_until_jobs_completed([request], poll_timeout=0)
    client.shutdown()
    assert request.state == "CREATED"
    assert request.timed_out
    assert not client.connection_list[0].connected
    assert client.submit_job(native("f"), native(""), background=True).complete
    assert client.connection_list[0].connected


@pytest.mark.parametrize("method", ["wait_until_jobs_completed", "submit_multiple_requests"])
def test_a_request_whose_end_this_client_cannot_notice_is_not_waited_for(
    client: Any, flavour: Any, native: Text, job_server: AnyJobServer, method: str
) -> None:
    other = flavour.GearmanClient([job_server.address])
    request = other.submit_job(native("nobody"), native(""), wait_until_complete=False)
    with pytest.raises(flavour.errors.ServerUnavailable):
        getattr(client, method)([request])
    client.submit_job(native("nobody"), native(""), background=True)
    with pytest.raises(flavour.errors.InvalidClientState, match="another client, or this one before shutdown"):
        getattr(client, method)([request])
    other.shutdown()
    other.submit_job(native("nobody"), native(""), background=True)
    with pytest.raises(flavour.errors.InvalidClientState, match="cannot be waited for"):
        getattr(other, method)([request])
    assert request.state == "CREATED"
    other.shutdown()


@pytest.mark.usefixtures("worker")
def test_threads_may_share_a_client(client: Any, native: Text) -> None:
    results: dict[str, Any] = {}

    def submit(text: str) -> None:
        for _ in range(20):
            results[text] = client.submit_job(native("reverse"), native(text), poll_timeout=10).result

    threads = [threading.Thread(target=submit, args=(text,)) for text in ("ab", "cd", "ef", "gh")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {text: native(text[::-1]) for text in ("ab", "cd", "ef", "gh")}


@pytest.mark.usefixtures("worker")
def test_a_client_works_with_more_than_1024_open_descriptors(client: Any, native: Text) -> None:
    """python3-gearman uses select()."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], 2048), limit[1]))
    null = os.open(os.devnull, os.O_RDONLY)
    descriptors = [null, *itertools.islice(iter(lambda: os.dup(null), None), 1100)]
    try:
        assert client.submit_job(native("reverse"), native("abc")).result == native("cba")
    finally:
        client.shutdown()
        for descriptor in descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
