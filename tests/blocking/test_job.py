"""The future of one job, for any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import socket
import threading
import traceback
from collections.abc import Callable

import pytest

from geartrain import Client as AsyncClient
from geartrain import (
    JobData,
    JobExceptionError,
    JobProgress,
    JobWarning,
    LocalProtocolError,
    NoServersError,
    Task,
)
from geartrain.blocking import Client, Job
from geartrain.client.updates import MAX_RECORDED, MAX_UPDATES
from tests.support.eventually import wait_until
from tests.support.forked_process import finish, fork
from tests.support.gearmand import free_port

pytestmark = pytest.mark.usefixtures("worker")


def test_a_job_works_with_concurrent_futures_and_asyncio(client: Client) -> None:
    jobs = [client.submit("reverse", b"%d" % number) for number in range(10, 15)]
    done, not_done = concurrent.futures.wait(jobs, timeout=10)
    assert done == {*jobs}
    assert not not_done
    assert {job.result() for job in client.as_completed(jobs)} == {b"01", b"11", b"21", b"31", b"41"}

    async def wrap() -> bytes:
        return await asyncio.wrap_future(client.submit("reverse", b"abc"))

    assert asyncio.run(wrap()) == b"cba"


def test_what_a_job_knows_about_itself(client: Client) -> None:
    job = client.submit("stream", b"2", retry_count=1)
    handle = job.created(10)
    assert job.result(10) == b"end"
    assert job.handle == handle
    assert job.tries == 1
    assert job.status == (1, 2)
    assert job.task.function == "stream"


def test_a_job_that_was_not_begun_yet_ends_in_a_forked_process() -> None:
    is_busy, release = threading.Event(), threading.Event()

    def keep_busy(error: object) -> None:
        is_busy.set()
        release.wait(10)

    with Client(f"127.0.0.1:{free_port()}") as client:
        client.submit("f", on_fail=keep_busy)
        assert is_busy.wait(10)
        job = client.submit("f")
        try:
            assert finish(*fork(lambda: repr(job.exception(10)))).startswith("LocalProtocolError")
        finally:
            release.set()
        assert isinstance(job.exception(10), NoServersError)


def test_a_wait_that_is_too_short_leaves_the_job_as_it_is(client: Client) -> None:
    job = client.submit("no worker has this")
    with pytest.raises(TimeoutError):
        job.result(0.01)
    assert not job.done()
    job.cancel()


def test_waiting_for_a_server_that_does_not_answer_has_a_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"127.0.0.1:{silent.getsockname()[1]}")
        with client, pytest.raises(TimeoutError, match=r"not accepted within 0.01 s"):
            client.submit("reverse").created(0.01)


def test_cancelling_wakes_the_waiting_threads(client: Client) -> None:
    job = client.submit("no worker has this")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            job.result()
        except concurrent.futures.CancelledError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    job.created(10)
    assert job.cancel()
    assert not job.cancel()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    wait_until(lambda: client.statistics().outstanding == 0)


def test_an_error_that_is_raised_often_keeps_its_traceback_short(client: Client) -> None:
    job = client.submit("fail", b"no")
    lengths = set()
    for _ in range(5):
        with pytest.raises(JobExceptionError) as caught:
            job.result(10)
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1


def test_only_the_job_server_ends_a_job(client: Client) -> None:
    job = client.submit("reverse")
    with pytest.raises(RuntimeError, match="set_result"):
        job.set_result(b"")
    with pytest.raises(RuntimeError, match="set_exception"):
        job.set_exception(ValueError())
    assert job.result(10) == b""


def test_updates_begin_with_the_first_one_however_late_they_are_read(client: Client) -> None:
    job = client.submit("stream", b"3")
    assert job.result(10) == b"end"
    expected = [JobData(b"0"), JobData(b"1"), JobData(b"2"), JobWarning(b"soon"), JobProgress(1, 2)]
    assert list(job.updates()) == expected
    assert list(job.updates()) == []


def test_recording_updates_does_not_hold_up_other_jobs(client: Client) -> None:
    """A stream without a consumer must not stop the connection."""
    job = client.submit("stream", b"%d" % (4 * MAX_UPDATES))
    assert job.result(10) == b"end"
    assert client.do("reverse", b"abc") == b"cba"
    assert len(list(job.updates())) == 4 * MAX_UPDATES + 2


@pytest.mark.parametrize("start_job_server", ["geartrain"], indirect=True)  # the job server has no part in it
def test_updates_that_nobody_reads_are_dropped_in_the_end(client: Client) -> None:
    job = client.submit("stream", b"%d" % (MAX_RECORDED + 1))
    assert job.result(30) == b"end"
    with pytest.raises(LocalProtocolError, match="before the first was read"):
        next(job.updates())


def test_leaving_the_updates_early_lets_the_connection_go_on(client: Client) -> None:
    job = client.submit("stream", b"%d" % (4 * MAX_UPDATES))
    for update in job.updates():
        assert update == JobData(b"0")
        break
    assert job.result(10) == b"end"
    assert client.do("reverse", b"abc") == b"cba"


def test_a_wait_under_gevent_goes_through_the_event_loop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent would take a wait for the future's own lock for an endless one."""
    monkeypatch.setattr("geartrain.blocking.job.is_patched", lambda: True)
    assert client.submit("reverse", b"abc").result(10) == b"cba"
    with pytest.raises(TimeoutError):
        client.submit("never").result(0.01)


def test_a_job_that_no_server_has_accepted_has_an_error_but_no_handle_and_no_updates() -> None:
    with Client("127.0.0.1:1") as client:
        job = client.submit("reverse", b"abc")
        with pytest.raises(NoServersError):
            job.created(10)
        with pytest.raises(NoServersError):
            job.created(10)
        assert job.handle is None
        assert list(job.updates()) == []
        assert not job.cancel()


def test_a_job_that_cannot_be_submitted_any_more_fails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: AsyncClient, task: Task) -> None:
        raise LocalProtocolError("closed in this moment")

    monkeypatch.setattr(AsyncClient, "add_task", refuse)
    job = client.submit("reverse", b"abc")
    with pytest.raises(LocalProtocolError, match="in this moment"):
        job.result(10)
    assert list(job.updates()) == []
    with pytest.raises(LocalProtocolError, match="in this moment"):
        job.created(10)
    assert (job.tries, job.status, job.handle) == (1, None, None)


def test_an_accepted_job_returns_its_handle_at_once(client: Client) -> None:
    job = client.submit("never")
    assert job.created(10) == job.created(0) == job.handle
    assert job.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        job.result(0)


def test_a_job_that_is_cancelled_before_its_turn_is_not_submitted(client: Client) -> None:
    job = Job(Task("never"), client._resident)
    assert job.cancel()
    client._resident.get_thread().call(_begin, job)
    assert client.statistics().submitted == 0


async def _begin(job: Job) -> None:
    job.begin()


def test_ctrl_c_while_a_job_is_submitted_cancels_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = client._resident.get_thread()
    post = thread.post
    interrupts = itertools.chain([True], itertools.repeat(False))

    def post_and_interrupt(call: Callable[[], object]) -> bool:
        was_posted = post(call)
        if next(interrupts):
            raise KeyboardInterrupt
        return was_posted

    monkeypatch.setattr(thread, "post", post_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.submit("never")
    wait_until(lambda: client.statistics().outstanding == 0)
