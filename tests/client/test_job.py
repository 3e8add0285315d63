"""A job: its attributes, its outcomes, retries, timeouts and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from geartrain import (
    Client,
    ClientDisconnectedError,
    ConnectionLostError,
    GearmanError,
    Job,
    JobExceptionError,
    JobFailedError,
    JobHandle,
    JobTimeoutError,
    NoServersError,
    ServerError,
)
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import FakePeer, fake_server
from tests.support.host_names import hanging_names
from tests.support.inside import dispatcher_of, rounds_missed, submission_of

P = PacketType


async def test_a_job_is_a_future_of_its_result() -> None:
    async with submitted() as (job, peer, _client):
        assert isinstance(job, asyncio.Future)
        assert not job.done()
        peer.send(P.WORK_COMPLETE, b"H:1", b"re\0sult")
        assert await job == b"re\0sult"
        first, second = await asyncio.gather(job, job)
        assert first == second == b"re\0sult"
        assert await asyncio.wait_for(job, 1) == b"re\0sult"
        done, _ = await asyncio.wait([job])
        assert done == {job}


async def test_a_job_shows_its_task_handle_tries_and_status() -> None:
    async with submitted() as (job, peer, client):
        assert (job.task.function, job.tries, job.status) == ("f", 1, None)
        assert job.handle == JobHandle(client.job_servers[0], "H:1")
        assert repr(job) == f"<Job f {client.job_servers[0]}//H:1 outstanding>"
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"2.5")
        await eventually(lambda: job.status == (1, 2.5))
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        assert job.status == (1, 2.5)
        assert repr(job).endswith("//H:1 done>")


async def test_a_job_has_no_handle_before_job_created() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        assert job.handle is None
        assert repr(job) == "<Job f without a handle outstanding>"
        await (await server.accept()).expect_job()
        assert job.handle is None
        job.cancel()
        assert repr(job) == "<Job f without a handle cancelled>"


async def test_only_its_server_ends_a_job() -> None:
    async with submitted() as (job, _peer, _client):
        with pytest.raises(RuntimeError, match="a Job does not support set_result"):
            job.set_result(b"")
        with pytest.raises(RuntimeError, match="a Job does not support set_exception"):
            job.set_exception(ValueError())
        job.cancel()


async def test_a_background_job_is_done_when_it_is_accepted() -> None:
    async with submitted(background=True) as (job, _peer, _client):
        assert await job == b""
        assert job.handle is not None
        assert job.handle.handle == "H:1"


def fail_with_warnings(peer: FakePeer, *warnings: bytes) -> None:
    for text in warnings:
        peer.send(P.WORK_WARNING, b"H:1", text)
    peer.send(P.WORK_FAIL, b"H:1")


ENDS: dict[str, tuple[Callable[[FakePeer], None], type[GearmanError], dict[str, object]]] = {
    "WORK_FAIL": (lambda peer: peer.send(P.WORK_FAIL, b"H:1"), JobFailedError, {}),
    "WORK_FAIL with a NUL": (lambda peer: peer.send(P.WORK_FAIL, b"H:1\0"), JobFailedError, {"reason": None}),
    "WORK_FAIL after warnings": (
        lambda peer: fail_with_warnings(peer, b"w", b"\0\xff"),
        JobFailedError,
        {"reason": "\0\ufffd"},
    ),
    "WORK_FAIL after a long warning": (
        lambda peer: fail_with_warnings(peer, b"x" * 9000),
        JobFailedError,
        {"reason": "x" * 8192},
    ),
    "WORK_EXCEPTION": (
        lambda peer: peer.send(P.WORK_EXCEPTION, b"H:1", b"ValueError: 7\0\xff"),
        JobExceptionError,
        {"data": b"ValueError: 7\0\xff"},
    ),
    "end of the connection": (
        lambda peer: peer.close(),
        ConnectionLostError,
        {"handle": "H:1", "outcome": "accepted"},
    ),
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_failed_job_raises_the_reason(name: str) -> None:
    end, kind, facts = ENDS[name]
    async with submitted() as (job, peer, _client):
        end(peer)
        with pytest.raises(kind) as caught:
            await job
    for fact, value in facts.items():
        assert getattr(caught.value, fact) == value
    assert "H:1" in str(caught.value)


async def test_a_reason_belongs_to_its_try() -> None:
    async with submitted(retry_count=1) as (job, peer, _client):
        peer.send(P.WORK_WARNING, b"H:1", b"the first time")
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job()
        peer.send(P.JOB_CREATED, b"H:2")
        peer.send(P.WORK_FAIL, b"H:2")
        with pytest.raises(JobFailedError) as caught:
            await job
    assert caught.value.reason is None


async def test_an_error_instead_of_job_created_is_a_server_error() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job()
        peer.send(P.ERROR, b"QUEUE_ERROR", b"Job queue is full")
        with pytest.raises(ServerError) as caught:
            await job
        assert (caught.value.code, caught.value.text) == ("QUEUE_ERROR", "Job queue is full")
        assert caught.value.server == server.address


async def test_a_loss_before_job_created_is_unacknowledged() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job()
        peer.close()
        with pytest.raises(ConnectionLostError, match="the server may never have seen it") as caught:
            await job
        assert (caught.value.outcome, caught.value.handle) == ("unacknowledged", None)
        assert caught.value.server == server.address


# Waiting for the handle.


async def test_created_returns_the_handle_to_all_waiters() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        waiting = [asyncio.create_task(job.created()) for _ in range(3)]
        await (await server.accept()).expect_job(b"H:1")
        handle = JobHandle(server.address, "H:1")
        assert await asyncio.gather(*waiting) == [handle] * 3
        assert await job.created() == handle
        job.cancel()


async def test_cancelling_the_wait_for_the_handle_does_not_affect_the_job() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.created(), 0.01)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        assert (await job.created()).handle == "H:1"
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"
        assert (await job.created()).handle == "H:1"


async def test_created_raises_the_error_of_a_job_that_ended_before() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        waiting = asyncio.create_task(job.created())
        peer = await server.accept()
        await peer.expect_job()
        peer.send(P.ERROR, b"X", b"")
        for wait in (waiting, job.created(), job):
            with pytest.raises(ServerError):
                await wait


async def test_created_is_cancelled_with_the_job() -> None:
    async with fake_client() as (client, _server):
        job = client.submit("f")
        waiting = asyncio.create_task(job.created())
        await asyncio.sleep(0)
        job.cancel()
        for wait in (waiting, job.created()):
            with pytest.raises(asyncio.CancelledError):
                await wait


async def test_created_waits_for_the_handle_of_the_current_try() -> None:
    async with submitted(retry_count=1) as (job, peer, _client):
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job()
        assert job.handle is None
        waiting = asyncio.create_task(job.created())
        await asyncio.sleep(0)
        assert not waiting.done()
        peer.send(P.JOB_CREATED, b"H:2")
        assert (await waiting).handle == "H:2"
        job.cancel()


# Cancellation.


async def test_a_job_that_is_cancelled_before_it_is_sent_is_never_sent() -> None:
    async with fake_client() as (client, server):
        job, other = client.submit("f", b"never"), client.submit("f", b"other")
        assert job.cancel()
        assert (await (await server.accept()).expect_job(b"H:1"))[2] == b"other"
        with pytest.raises(asyncio.CancelledError):
            await job
        other.cancel()


async def test_cancelling_twice_returns_false() -> None:
    async with submitted() as (job, _peer, _client):
        assert job.cancel("enough")
        assert not job.cancel()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await job


async def test_packets_of_a_cancelled_job_are_dropped_and_counted() -> None:
    async with submitted() as (job, peer, client):
        job.cancel()
        peer.send(P.WORK_DATA, b"H:1", b"x")
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        other = client.submit("f")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"right")
        assert await other == b"right"
        assert client.statistics().servers[client.job_servers[0]].late == 2


async def test_a_job_that_is_cancelled_before_job_created_keeps_its_place_in_the_queue() -> None:
    async with fake_client() as (client, server):
        jobs = [client.submit("f", b"%d" % n) for n in range(3)]
        peer = await server.accept()
        for _ in jobs:
            await peer.expect_job()
        jobs[1].cancel()
        for handle in (b"H:1", b"H:2", b"H:3"):
            peer.send(P.JOB_CREATED, handle)
        for handle in (b"H:2", b"H:3", b"H:1"):
            peer.send(P.WORK_COMPLETE, handle, handle)
        assert await jobs[0] == b"H:1"
        assert await jobs[2] == b"H:3"


async def test_a_background_job_cancelled_before_job_created_takes_no_result_from_another_job() -> None:
    """A job server sends nothing more for a background job, even if it was merged with a foreground job."""
    async with fake_client() as (client, server):
        background = client.submit("f", unique="u", background=True)
        peer = await server.accept()
        await peer.expect_job()
        background.cancel()
        job = client.submit("f", unique="u")
        await peer.expect_job()
        peer.send(P.JOB_CREATED, b"H:1")
        peer.send(P.JOB_CREATED, b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert await asyncio.wait_for(job, 5) == b"result"


# Retries.

FAILURES: dict[str, Callable[[FakePeer], None]] = {
    "WORK_FAIL": lambda peer: peer.send(P.WORK_FAIL, b"H:1"),
    "WORK_EXCEPTION": lambda peer: peer.send(P.WORK_EXCEPTION, b"H:1", b"x"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failed_try_is_retried_immediately_over_the_same_connection(name: str) -> None:
    retries: list[int] = []
    async with submitted(retry_count=2, on_retry=retries.append) as (job, peer, _client):
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"2")
        for handle in (b"H:1", b"H:1"):  # a restarted server may give the same handle; the old one has ended
            FAILURES[name](peer)
            assert (await peer.expect_job(handle))[2] == b"w"
        await job.created()
        assert (job.tries, retries, job.status) == (3, [1, 2], None)
        peer.send(P.WORK_COMPLETE, b"H:1", b"at last")
        assert await job == b"at last"


async def test_with_no_tries_left_the_last_error_is_raised() -> None:
    async with submitted(retry_count=1) as (job, peer, _client):
        peer.send(P.WORK_FAIL, b"H:1")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_EXCEPTION, b"H:2", b"second")
        with pytest.raises(JobExceptionError) as caught:
            await job
        assert caught.value.data == b"second"
        assert job.tries == 2


async def test_an_error_instead_of_job_created_uses_up_a_try() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f", retry_count=1)
        peer = await server.accept()
        await peer.expect_job()
        peer.send(P.ERROR, b"QUEUE_ERROR", b"")
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"


async def test_a_lost_job_is_not_sent_again_without_retry_count() -> None:
    async with submitted() as (job, peer, client):
        peer.close()
        with pytest.raises(ConnectionLostError):
            await job
        assert client.statistics().submitted == 1


async def test_a_lost_job_is_sent_again_over_a_new_connection() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f", b"w", retry_count=1)
        first = await server.accept()
        await first.expect_job(b"H:1")
        await job.created()
        first.close()
        second = await server.accept()
        await second.expect_job(b"H:1")
        second.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"
        assert job.tries == 2


async def test_a_job_that_was_sent_never_raises_no_servers_error() -> None:
    """After ``NoServersError`` it is safe to submit again; here the job may already have run."""
    retries: list[int] = []
    async with fake_server() as server:
        client = Client([server.address], exceptions=False, dead_time=0.05)
        job = client.submit("f", retry_count=2, on_retry=retries.append)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
    async with client:  # the server is gone
        with pytest.raises(ConnectionLostError) as caught:
            await job
        assert caught.value.outcome == "accepted"
        assert "no job server could be reached" in caught.value.__notes__[0]
        assert (retries, job.tries) == ([1, 2], 3)


async def wait_for_rounds(job: Job) -> None:
    """Wait until the current try has looked for a job server twice without success."""
    await eventually(lambda: rounds_missed(job) >= 2)


async def test_a_retry_that_finds_no_server_uses_up_no_try_until_the_dead_time_is_over() -> None:
    retries: list[int] = []
    async with fake_client() as (client, server):
        job = client.submit("f", retry_count=1, on_retry=retries.append)
        first = await server.accept()
        await first.expect_job(b"H:1")
        await job.created()
        client.set_job_servers([])
        first.close()
        await wait_for_rounds(job)
        client.set_job_servers([server.address])
        second = await server.accept()
        await second.expect_job(b"H:1")
        second.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"
        assert (retries, job.tries) == ([1], 2)


async def test_timeout_and_cancelling_end_a_retry_that_looks_for_a_server() -> None:
    async with fake_server() as server:
        client = Client([server.address], exceptions=False)
        jobs = [client.submit("f", retry_count=1, timeout=timeout) for timeout in (0.5, None, None)]
        peer = await server.accept()
        for _ in jobs:
            await peer.expect_job()
    async with client:  # the server is gone
        for job in jobs[1:]:
            await wait_for_rounds(job)
        jobs[1].cancel()
        with pytest.raises(JobTimeoutError):
            await jobs[0]
        await client.disconnect_all()
        with pytest.raises(ClientDisconnectedError):
            await jobs[2]
        assert client.statistics().outstanding == 0


async def test_a_job_that_cannot_be_sent_fails_immediately_regardless_of_retry_count() -> None:
    async with fake_server() as server:
        address = server.address
    async with Client([address]) as client:
        job = client.submit("f", retry_count=100)
        with pytest.raises(NoServersError) as caught:
            await job
        assert list(caught.value.errors) == [address]
        assert isinstance(caught.value.errors[address], ConnectionRefusedError)
        assert address in str(caught.value)
        assert job.tries == 1


# Timeouts.


async def test_timeout_ends_a_job_regardless_of_remaining_tries() -> None:
    async with submitted(timeout=0.05, retry_count=5) as (job, _peer, _client):
        with pytest.raises(JobTimeoutError) as caught:
            await job
        assert (caught.value.scope, caught.value.seconds, caught.value.handle) == ("job", 0.05, "H:1")
        assert isinstance(caught.value, TimeoutError)
        assert "did not end in 0.05 s" in str(caught.value)


async def test_timeout_covers_the_time_before_there_is_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_names(monkeypatch):
        async with Client(["name.that.hangs"]) as client:
            job = client.submit("f", timeout=0.02)
            with pytest.raises(JobTimeoutError) as caught:
                await job
            assert caught.value.handle is None
            assert client.statistics().submitted == 0


async def test_timeout_covers_the_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geartrain.client.submission.delay", lambda number: 3600.0)
    async with submitted(timeout=0.5, retry_count=1) as (job, peer, client):
        peer.close()
        with pytest.raises(JobTimeoutError):
            await job
        assert dispatcher_of(client).is_idle


async def test_try_timeout_uses_up_a_try_and_the_late_result_is_dropped() -> None:
    async with submitted(try_timeout=0.05, retry_count=1) as (job, peer, _client):
        await peer.expect_job()  # the second try
        assert job.tries == 2
        peer.send(P.WORK_COMPLETE, b"H:1", b"late")
        peer.send(P.JOB_CREATED, b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"in time")
        assert await job == b"in time"


async def test_try_timeout_without_tries_left_ends_the_job() -> None:
    async with submitted(try_timeout=0.02) as (job, _peer, _client):
        with pytest.raises(JobTimeoutError, match=r"try 1 of the job f .* did not end in 0.02 s") as caught:
            await job
        assert caught.value.scope == "try"


async def test_a_job_that_ends_in_time_leaves_no_timer() -> None:
    async with submitted(timeout=60, try_timeout=30) as (job, peer, _client):
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        await job
        assert submission_of(job).scheduler.timeouts._timer is None


async def test_the_shorter_timeout_of_a_later_job_ends_it_first() -> None:
    async with submitted(timeout=60) as (job, _peer, client):
        later = client.submit("f", timeout=0.02)
        with pytest.raises(JobTimeoutError):
            await later
        assert not job.done()
        job.cancel()


async def test_disconnecting_ends_a_job_without_a_retry() -> None:
    async with submitted(retry_count=5) as (job, _peer, client):
        await client.disconnect_all()
        with pytest.raises(ClientDisconnectedError, match=r"with the job f \(.*H:1\) outstanding"):
            await job
        assert job.tries == 1


async def test_an_error_that_was_never_retrieved_is_reported_unless_on_fail_was_called() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with fake_client() as (client, server):
        errors: list[BaseException] = []
        client.submit("f", on_fail=errors.append)
        peer = await server.accept()
        await peer.expect_job()
        peer.send(P.ERROR, b"X", b"")
        await eventually(lambda: errors)
        assert not reported
        job: Job | None = client.submit("f")
        await peer.expect_job()
        peer.send(P.ERROR, b"X", b"")
        await eventually(lambda: job is not None and job.done())
        job = None
        await eventually(lambda: reported)
        assert "exception was never retrieved" in reported[0]["message"]
