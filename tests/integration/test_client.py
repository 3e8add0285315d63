"""
Client features as users see them, with gearmand and with our own job server.

Features of Perl's ``POE::Component::Gearman::Client`` and the tests that cover them:

====================================================  ===========================================================
Perl module                                           Test
====================================================  ===========================================================
``spawn`` with ``alias`` and ``job_servers``          test_spawn_takes_an_alias_and_job_servers
``spawn`` without ``alias``: ``"Gearman"``            test_spawn_without_an_alias_is_called_gearman
several clients side by side                          test_several_clients_coexist
``job_servers``                                       test_job_servers_lists_the_configured_addresses
``set_job_servers`` keeps remaining servers           test_set_job_servers_keeps_the_socket_of_a_kept_server
``set_job_servers`` drains and closes removed ones    test_set_job_servers_drains_and_closes_a_removed_server
``set_job_servers`` uses new ones                     test_set_job_servers_uses_a_new_server
``add_task`` with every callback                      test_add_task_calls_every_callback
``disconnect_all``                                    test_disconnect_all_lets_asyncio_run_return_immediately
events by name from a coroutine                       test_events_by_name_from_a_coroutine
events by name from a callback                        test_events_by_name_from_a_callback
events by name from another thread                    test_events_by_name_from_another_thread
====================================================  ===========================================================

Features that it documented but did not implement:

====================================================  ===========================================================
task ``timeout``                                      test_timeout_ends_a_task
``retry_count``                                       test_retry_count_really_retries
graceful closing                                      test_drain_and_close_lets_jobs_finish
WORK_DATA, WORK_WARNING                               test_data_and_warnings_arrive
WORK_EXCEPTION                                        test_an_exception_arrives_with_its_data
ERROR                                                 test_an_error_from_the_server_ends_the_job_it_refers_to
status queries                                        test_status_by_handle_follows_a_job_until_its_end
background jobs that end                              test_a_background_job_is_done_when_the_server_has_accepted_it
====================================================  ===========================================================
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import geartrain
from geartrain import (
    Client,
    ClientDisconnectedError,
    Job,
    JobData,
    JobExceptionError,
    JobFailedError,
    JobHandle,
    JobProgress,
    JobStatus,
    JobTimeoutError,
    JobWarning,
    LocalProtocolError,
    NoServersError,
    Priority,
    ServerError,
    Task,
)
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.gearmand import ask
from tests.support.inside import session_of
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.raw_worker import echo_worker, raw_worker

P = PacketType


def socket_of(job: Job) -> int:
    """Return the file descriptor of the socket that a job was sent over."""
    sock = session_of(job).connection.socket
    assert sock is not None
    return sock.fileno()


# Features of the Perl module.


async def test_spawn_takes_an_alias_and_job_servers(job_server: AnyJobServer) -> None:
    async with (
        geartrain.spawn(alias="images", job_servers=[job_server.address]) as client,
        echo_worker(job_server.address, "f"),
    ):
        assert geartrain.get_client("images") is client
        assert await geartrain.get_client("images").do("f", b"ab") == b"ba"


async def test_spawn_without_an_alias_is_called_gearman(job_server: AnyJobServer) -> None:
    async with geartrain.spawn(job_servers=job_server.address), echo_worker(job_server.address, "f"):
        assert await geartrain.get_client().do("f", b"ab") == b"ba"


async def test_several_clients_coexist(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with (
        geartrain.spawn(alias="one", job_servers=[one.address]) as first,
        geartrain.spawn(alias="two", job_servers=[two.address]) as second,
        echo_worker(one.address, "f"),
    ):
        waiting = second.submit("f")
        await waiting.created()
        assert await first.do("f", b"ab") == b"ba"
        await first.disconnect_all()
        assert not waiting.done()
        waiting.cancel()


async def test_job_servers_lists_the_configured_addresses(job_server: AnyJobServer) -> None:
    async with Client([job_server.address, "10.0.0.2", "10.0.0.2:4730", "[::1]:7"]) as client:
        assert client.job_servers == (job_server.address, "10.0.0.2:4730", "[::1]:7")


async def test_set_job_servers_keeps_the_socket_of_a_kept_server(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with Client([one.address]) as client, raw_worker(one.address, "f") as worker:
        before = client.submit("f", b"before")
        await before.created()
        client.set_job_servers([two.address, one.address])
        client.set_job_servers([one.address])
        after = client.submit("f", b"after")
        await after.created()
        assert socket_of(before) == socket_of(after)
        for _ in range(2):
            await worker.complete_next()
        assert await before == b"erofeb"
        assert await after == b"retfa"


async def test_set_job_servers_drains_and_closes_a_removed_server(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with Client([one.address]) as client, raw_worker(one.address, "f") as worker:
        jobs = [client.submit("f", b"ab") for _ in range(3)]
        for job in jobs:
            await job.created()
        client.set_job_servers([two.address])
        for _ in jobs:
            assert one.address in client.statistics().servers
            await worker.complete_next()
        assert await asyncio.gather(*jobs) == [b"ba"] * 3
        await eventually(lambda: list(client.statistics().servers) == [two.address])


async def test_set_job_servers_uses_a_new_server(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with Client([one.address]) as client, echo_worker(two.address, "f"):
        old = client.submit("f")
        client.set_job_servers([two.address])
        assert await client.do("f", b"ab") == b"ba"
        assert await asyncio.wait_for(old, 5) == b"", "unsent jobs move to the new server"


async def test_add_task_calls_every_callback(job_server: AnyJobServer) -> None:
    calls: list[tuple[Any, ...]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.append((name, *arguments))

    names = ("created", "data", "warning", "status", "retry", "exception", "complete", "fail")
    task = Task("f", b"w", retry_count=1, **{f"on_{name}": record(name) for name in names})  # type: ignore[arg-type]
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        job = client.add_task(task)
        first = await worker.grab()
        worker.send(P.WORK_DATA, first.handle, b"part")
        worker.send(P.WORK_WARNING, first.handle, b"mind")
        worker.send(P.WORK_STATUS, first.handle, b"1", b"4")
        worker.send(P.WORK_EXCEPTION, first.handle, b"oops")
        second = await worker.grab()
        worker.complete(second, b"result")
        assert await job == b"result"
        assert client.add_task(task).cancel()
        await eventually(lambda: calls[-1][0] == "fail")
    handles = [JobHandle(job_server.address, assigned.handle.decode()) for assigned in (first, second)]
    assert calls[:-1] == [
        ("created", handles[0]),
        ("data", b"part"),
        ("warning", b"mind"),
        ("status", 1, 4),
        ("exception", b"oops"),
        ("retry", 1),
        ("created", handles[1]),
        ("complete", b"result"),
    ]
    assert isinstance(calls[-1][1], asyncio.CancelledError)


def test_disconnect_all_lets_asyncio_run_return_immediately(job_server: AnyJobServer) -> None:
    """With jobs outstanding: the client leaves nothing that keeps the loop running or that the loop must cancel."""

    async def main() -> tuple[list[Job], set[asyncio.Task[Any]]]:
        client = Client([job_server.address, "127.0.0.1:1"])
        jobs = [client.submit("f", retry_count=3, timeout=60) for _ in range(10)]
        await asyncio.wait([asyncio.ensure_future(job.created()) for job in jobs], timeout=0.05)
        await client.disconnect_all()
        return jobs, asyncio.all_tasks() - {asyncio.current_task()}

    jobs, left = asyncio.run(main())
    assert not left
    for job in jobs:
        assert isinstance(job.exception(), ClientDisconnectedError | NoServersError)


async def test_events_by_name_from_a_coroutine(job_server: AnyJobServer) -> None:
    ends: list[object] = []
    async with geartrain.spawn(job_servers=[]) as client, echo_worker(job_server.address, "f"):
        geartrain.post("Gearman", "set_job_servers", [job_server.address])
        geartrain.post("Gearman", "add_task", Task("f", b"ab", on_complete=ends.append))
        await eventually(lambda: ends == [b"ba"])
        geartrain.post("Gearman", "disconnect_all")
        await eventually(lambda: client.statistics().servers[job_server.address].state == "idle")


async def test_events_by_name_from_a_callback(job_server: AnyJobServer) -> None:
    ends: list[object] = []

    def submit_again(result: bytes) -> None:
        geartrain.post("Gearman", "add_task", Task("f", result + b"c", on_complete=ends.append))

    async with geartrain.spawn(job_servers=[job_server.address]), echo_worker(job_server.address, "f"):
        geartrain.post("Gearman", "add_task", Task("f", b"ab", on_complete=submit_again))
        await eventually(lambda: ends == [b"cab"])


async def test_events_by_name_from_another_thread(job_server: AnyJobServer) -> None:
    ends: list[object] = []

    def work() -> None:
        geartrain.post("Gearman", "set_job_servers", [job_server.address])
        for number in range(10):
            geartrain.post("Gearman", "add_task", Task("f", b"%d" % number, on_complete=ends.append))

    async with geartrain.spawn(job_servers=[]), echo_worker(job_server.address, "f"):
        thread = threading.Thread(target=work)
        thread.start()
        await eventually(lambda: len(ends) == 10)
        thread.join()
    assert ends == [b"%d" % number for number in range(10)]


# Features that the Perl module documented but did not implement.


async def test_timeout_ends_a_task(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        with pytest.raises(JobTimeoutError):
            await client.do("nobody does this", timeout=0.05)
        assert client.statistics().outstanding == 0


async def test_retry_count_really_retries(job_server: AnyJobServer) -> None:
    retries: list[int] = []
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        job = client.submit("f", b"w", retry_count=3, on_retry=retries.append)
        for _ in range(3):
            assigned = await worker.grab()
            worker.send(P.WORK_FAIL, assigned.handle)
        await worker.complete_next(b"the fourth time")
        assert await job == b"the fourth time"
        assert retries == [1, 2, 3]
        failing = client.submit("f", retry_count=1)
        for _ in range(2):
            assigned = await worker.grab()
            worker.send(P.WORK_FAIL, assigned.handle)
        with pytest.raises(JobFailedError):
            await failing


async def test_drain_and_close_lets_jobs_finish(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        jobs = [client.submit("f", b"ab") for _ in range(20)]
        draining = asyncio.create_task(client.drain())
        async with echo_worker(job_server.address, "f"):
            await draining
    assert [job.result() for job in jobs] == [b"ba"] * 20


async def test_data_and_warnings_arrive(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        job = client.submit("f")
        updates = aiter(job)
        assigned = await worker.grab()
        worker.send(P.WORK_DATA, assigned.handle, b"a\0b")
        worker.send(P.WORK_WARNING, assigned.handle, b"")
        worker.send(P.WORK_STATUS, assigned.handle, b"1", b"2")
        worker.complete(assigned, b"result")
        assert [u async for u in updates] == [JobData(b"a\0b"), JobWarning(b""), JobProgress(1, 2)]
        assert await job == b"result"


async def test_an_exception_arrives_with_its_data(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        for data in (b"ValueError: 7", b"", b"\0\xff"):
            job = client.submit("f")
            assigned = await worker.grab()
            worker.send(P.WORK_EXCEPTION, assigned.handle, data)
            with pytest.raises(JobExceptionError) as caught:
                await job
            assert caught.value.data == data


async def test_without_the_option_an_exception_is_a_failure(job_server: AnyJobServer) -> None:
    async with (
        Client([job_server.address], exceptions=False) as client,
        raw_worker(job_server.address, "f") as worker,
    ):
        job = client.submit("f")
        assigned = await worker.grab()
        worker.send(P.WORK_EXCEPTION, assigned.handle, b"ValueError: 7")
        with pytest.raises(JobFailedError):
            await job


async def test_an_error_from_the_server_ends_the_job_it_refers_to(job_server: AnyJobServer) -> None:
    ask(job_server.port, "create function f")
    ask(job_server.port, "maxqueue f 1")
    async with Client([job_server.address]) as client:
        queued, refused, other = client.submit("f"), client.submit("f"), client.submit("g")
        with pytest.raises(ServerError, match="QUEUE_ERROR Job queue is full"):
            await refused
        await queued.created()
        await other.created()
        queued.cancel()
        other.cancel()


async def test_status_by_handle_follows_a_job_until_its_end(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        handle = await client.do_background("f")
        assert await client.get_status(handle) == JobStatus(True, False, 0, 0, None)
        assigned = await worker.grab()
        worker.send(P.WORK_STATUS, assigned.handle, b"3", b"4")
        await worker.flush()
        status = await client.get_status(str(handle))
        assert status == JobStatus(True, True, 3, 4, None)
        assert status.fraction == 0.75
        worker.complete(assigned)
        await worker.flush()
        assert await client.get_status(handle) == JobStatus(False, False, 0, 0, None)


async def test_a_background_job_is_done_when_the_server_has_accepted_it(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        job = client.submit("f", b"w", background=True)
        assert await job == b""
        assert client.statistics().outstanding == 0
        async with raw_worker(job_server.address, "f") as worker:
            assigned = await worker.grab()
            assert (assigned.workload, assigned.handle.decode()) == (b"w", job.handle and job.handle.handle)


# Submitting.


async def test_do_returns_what_the_worker_sent(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, echo_worker(job_server.address, "f"):
        for workload in (b"hello", b"", b"a\0b\0", bytes(range(256)) * 1000):
            assert await client.do("f", workload) == workload[::-1]
        assert await client.do("f", "grüße") == "grüße".encode()[::-1]


async def test_a_workload_of_many_megabytes_is_returned_unchanged(job_server: AnyJobServer) -> None:
    workload = bytes(range(256)) * (16 * 1024)
    async with Client([job_server.address]) as client, echo_worker(job_server.address, "f"):
        assert await client.do("f", workload) == workload[::-1]


async def test_workers_see_high_before_normal_before_low(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        order = [
            (priority, background)
            for background in (False, True)
            for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
        ]
        jobs = [client.submit("f", p.value, priority=p, background=b) for p, b in order]
        for job in jobs:
            await job.created()
        seen = [(await worker.complete_next()).workload for _ in jobs]
        assert seen == [b"high", b"high", b"normal", b"normal", b"low", b"low"]
        await asyncio.gather(*jobs)


@pytest.mark.parametrize("as_datetime", [False, True])
async def test_run_at_delays_a_job(job_server: AnyJobServer, as_datetime: bool) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    past = time.time() - 10
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        held = await client.do_background("f", b"held", run_at=later if as_datetime else later.timestamp())
        await client.do_background("f", b"due", run_at=past)
        assert (await worker.complete_next()).workload == b"due"
        worker.send(P.GRAB_JOB)
        assert await worker._reply() == (P.NO_JOB, b"")
        assert await client.get_status(held) == JobStatus(True, False, 0, 0, None)


async def test_run_at_runs_a_job_when_it_is_due(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        await client.do_background("f", b"due", run_at=time.time() + 0.5)

        async def grab() -> bytes:
            while True:  # gearmand wakes no worker for a job that becomes due
                worker.send(P.GRAB_JOB_UNIQ)
                kind, body = await worker._reply()
                if kind is P.JOB_ASSIGN_UNIQ:
                    return body
                await asyncio.sleep(0.05)

        assert (await grab()).endswith(b"\0due")


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"prefix": "ns"}, "ns\tf"),
        ({"prefix": "ns", "prefix_separator": ""}, "nsf"),
        ({"prefix": "ns", "prefix_separator": "::"}, "ns::f"),
    ],
)
async def test_a_prefix_is_a_namespace(job_server: AnyJobServer, options: Any, function: str) -> None:
    async with Client([job_server.address], **options) as client, echo_worker(job_server.address, function) as done:
        assert await client.do("f", b"ab") == b"ba"
        assert done[0].function == function.encode()


async def test_a_function_that_is_too_long_with_its_prefix_is_rejected(job_server: AnyJobServer) -> None:
    async with Client([job_server.address], prefix="p" * 500) as client:
        with pytest.raises(ValueError, match="a function must have at most 512 bytes with its prefix, got 521"):
            client.submit("f" * 20)


# Coalescing.


@pytest.mark.parametrize("copies", [2, 5])
async def test_equal_uniques_on_one_connection_share_a_job_and_each_gets_every_update_once(
    job_server: AnyJobServer, copies: int
) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        jobs = [client.submit("f", b"%d" % n, unique="key") for n in range(copies)]
        iterators = [aiter(job) for job in jobs]
        handles = {await job.created() for job in jobs}
        assert len(handles) == 1
        assigned = await worker.grab()
        assert (assigned.workload, assigned.unique) == (b"0", b"key")
        worker.send(P.WORK_DATA, assigned.handle, b"1")
        worker.send(P.WORK_STATUS, assigned.handle, b"1", b"2")
        worker.send(P.WORK_DATA, assigned.handle, b"2")
        worker.complete(assigned, b"result")
        assert await asyncio.gather(*jobs) == [b"result"] * copies
        for iterator in iterators:
            assert [u async for u in iterator] == [JobData(b"1"), JobProgress(1, 2), JobData(b"2")]
        assert client.statistics().servers[job_server.address].late == 0


async def test_a_job_that_joins_later_gets_later_updates(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        first = client.submit("f", unique="key")
        first_updates = aiter(first)
        assigned = await worker.grab()
        worker.send(P.WORK_DATA, assigned.handle, b"1")
        await anext(first_updates)
        second = client.submit("f", unique="key")
        second_updates = aiter(second)
        await second.created()
        worker.send(P.WORK_DATA, assigned.handle, b"2")
        worker.send(P.WORK_FAIL, assigned.handle)
        assert [u async for u in first_updates] == [u async for u in second_updates] == [JobData(b"2")]
        for job in (first, second):
            with pytest.raises(JobFailedError):
                await job


async def test_one_of_several_merged_jobs_can_be_cancelled(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        jobs = [client.submit("f", unique="key") for _ in range(3)]
        for job in jobs:
            await job.created()
        assigned = await worker.grab()
        jobs[0].cancel()
        worker.send(P.WORK_DATA, assigned.handle, b"part")
        worker.complete(assigned, b"result")
        assert await asyncio.gather(*jobs[1:]) == [b"result"] * 2


async def test_a_dash_merges_equal_workloads(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        jobs = [client.submit("f", workload, unique="-") for workload in (b"ab", b"cd", b"ab")]
        for job in jobs:
            await job.created()
        assert jobs[0].handle == jobs[2].handle != jobs[1].handle
        for _ in range(2):
            await worker.complete_next()
        assert await asyncio.gather(*jobs) == [b"ba", b"dc", b"ba"]


async def test_equal_uniques_of_two_clients_share_a_job(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as one, Client([job_server.address]) as two:
        jobs = [client.submit("f", b"ab", unique="key") for client in (one, two)]
        for job in jobs:
            await job.created()
        async with echo_worker(job_server.address, "f") as done:
            assert await asyncio.gather(*jobs) == [b"ba", b"ba"]
            assert len(done) == 1


async def test_foreground_and_background_jobs_merge(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        background = client.submit("f", b"ab", unique="key", background=True)
        foreground = client.submit("f", unique="key")
        again = client.submit("f", unique="key", background=True)
        assert list(await asyncio.gather(background, again)) == [b"", b""]
        await worker.complete_next()
        assert await foreground == b"ba"


# Queries.


async def test_status_by_unique_counts_the_waiting_clients(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        assert await client.get_status_unique("key") == JobStatus(False, False, 0, 0, 0)
        jobs = [client.submit("f", unique="key") for _ in range(2)]
        for job in jobs:
            await job.created()
        assert await client.get_status_unique("key") == JobStatus(True, False, 0, 0, 2)
        assigned = await worker.grab()
        worker.send(P.WORK_STATUS, assigned.handle, b"1", b"2")
        await worker.flush()
        assert await client.get_status_unique(b"key") == JobStatus(True, True, 1, 2, 2)
        for job in jobs:
            job.cancel()
        for unique in ("-", ""):
            with pytest.raises(ValueError, match="only for a non-empty unique"):
                await client.get_status_unique(unique)


async def test_the_status_of_another_clients_job_can_be_queried(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with Client([one.address]) as client:
        handle = await client.do_background("f")
    async with Client([two.address]) as other:
        assert (await other.get_status(str(handle))).known
        await eventually(lambda: list(other.statistics().servers) == [two.address])
        with pytest.raises(ValueError, match="a handle must be written like"):
            await other.get_status("H:lap:1")
        with pytest.raises(TypeError, match="a handle must be a JobHandle or a string"):
            await other.get_status(7)  # type: ignore[arg-type]  # the point of the test
        with pytest.raises(ValueError, match="a handle must have 1 to 63 bytes and no NUL"):
            await other.get_status(JobHandle(one.address, "H" * 64))
        assert list(other.statistics().servers) == [two.address]


async def test_queries_and_jobs_share_a_connection(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, echo_worker(job_server.address, "f"):
        handle = await client.do_background("nobody")
        answers = await asyncio.gather(
            *(
                coroutine
                for n in range(50)
                for coroutine in (
                    client.do("f", b"%02d" % n),
                    client.get_status(handle),
                    client.do_background("nobody"),
                    client.get_status_unique("no such"),
                    client.ping(),
                )
            )
        )
        assert answers[::5] == [(b"%02d" % n)[::-1] for n in range(50)]
        assert answers[1::5] == [JobStatus(True, False, 0, 0, None)] * 50
        assert len(set(answers[2::5])) == 50
        assert answers[3::5] == [JobStatus(False, False, 0, 0, 0)] * 50


async def test_ping_returns_seconds_or_an_error_for_each_server(job_server: AnyJobServer) -> None:
    async with Client([job_server.address, "127.0.0.1:1"]) as client:
        answers = await client.ping()
        assert list(answers) == [job_server.address, "127.0.0.1:1"]
        seconds = answers[job_server.address]
        assert isinstance(seconds, float)
        assert 0 < seconds < 10
        assert isinstance(answers["127.0.0.1:1"], NoServersError)


async def test_cancel_removes_a_queued_job_from_its_server(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        job = client.submit("f", b"never")
        background = await client.do_background("f", b"never")
        assert await client.cancel(await job.created())
        with pytest.raises(JobFailedError):
            await job
        assert await client.cancel(str(background))
        assert not await client.cancel(JobHandle(job_server.address, "H:nobody:7"))
        async with echo_worker(job_server.address, "f") as done:
            assert await client.do("f", b"ab") == b"ba"
            assert [assigned.workload for assigned in done] == [b"ab"]


async def test_cancel_at_an_unreachable_server_raises(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        with pytest.raises(NoServersError) as caught:
            await client.cancel("127.0.0.1:1//H:x:1")
        assert isinstance(caught.value.errors["127.0.0.1:1"], ConnectionRefusedError)


# Cancelling the wait for a job.


async def by_timeout(client: Client) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.do("f", b"abandoned")


async def by_wait_for(client: Client) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.do("f", b"abandoned"), 0.01)


async def by_wait_for_of_the_job(client: Client) -> None:
    job = client.submit("f", b"abandoned")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job, 0.01)
    assert job.cancelled()


async def by_a_failing_task_group(client: Client) -> None:
    async def fail() -> None:
        await eventually(lambda: client.statistics().outstanding == 2)
        raise KeyError("fails")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.do("f", b"abandoned"))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def by_cancelling_the_task(client: Client) -> None:
    task = asyncio.create_task(client.do("f", b"abandoned"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "abandon",
    [by_timeout, by_wait_for, by_wait_for_of_the_job, by_a_failing_task_group, by_cancelling_the_task],
    ids=lambda abandon: abandon.__name__,
)
async def test_cancelling_the_wait_does_not_affect_the_client_or_other_jobs(
    job_server: AnyJobServer, abandon: Callable[[Client], Any]
) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        before = client.submit("f", b"before")
        await before.created()
        socket = socket_of(before)
        await abandon(client)
        after = client.submit("f", b"after")
        await after.created()
        assert socket_of(after) == socket
        seen = [(await worker.complete_next()).workload for _ in range(3)]
        assert sorted(seen) == [b"abandoned", b"after", b"before"]
        assert list(await asyncio.gather(before, after)) == [b"erofeb", b"retfa"]
        assert client.statistics().outstanding == 0


async def test_a_shielded_job_continues_when_the_wait_is_cancelled(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        job = client.submit("f", b"ab")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(job), 0.01)
        async with echo_worker(job_server.address, "f"):
            assert await job == b"ba"


# Event loop and thread.


def test_a_client_can_be_used_in_one_loop_after_another(job_server: AnyJobServer) -> None:
    client = Client([job_server.address])

    async def main() -> JobHandle:
        handle = await client.do_background("f")
        await client.disconnect_all()
        return handle

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first != second


async def test_a_client_in_use_rejects_other_loops_and_threads(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        await client.do_background("f")

        async def elsewhere() -> None:
            client.submit("f")

        for call in (lambda: asyncio.run(elsewhere()), lambda: client.submit("f")):
            with pytest.raises(LocalProtocolError, match=r"use geartrain\.post"):
                await asyncio.to_thread(call)
        loop = asyncio.get_running_loop()

        def from_thread() -> JobHandle:
            return asyncio.run_coroutine_threadsafe(client.do_background("f"), loop).result(10)

        assert (await asyncio.to_thread(from_thread)).server == job_server.address


async def test_an_unclosed_client_warns(job_server: AnyJobServer) -> None:
    client: Client | None = Client([job_server.address])
    assert client is not None
    await client.do_background("f")
    with pytest.warns(ResourceWarning, match=r"unclosed <Client 127\.0\.0\.1:"):
        client = None
    await asyncio.sleep(0)  # it closes its connection anyway


async def test_an_unused_client_does_not_warn() -> None:
    client: Client | None = Client()
    assert client is not None
    client.bind()
    client = None


async def test_many_kinds_of_jobs_submitted_together_get_their_own_results(job_server: AnyJobServer) -> None:
    workloads = [b"%04d" % number * 100 for number in range(1200)]
    options: list[dict[str, Any]] = [{}, {"priority": Priority.HIGH}, {"unique": "-"}, {"priority": Priority.LOW}]
    async with (
        Client([job_server.address]) as client,
        echo_worker(job_server.address, "f") as done_by_f,
        echo_worker(job_server.address, "g") as done_by_g,
    ):
        await client.do("f")
        doing = [
            client.do("fg"[number // 4 % 2], workload, **options[number % 4])
            for number, workload in enumerate(workloads[:800])
        ]
        jobs = [client.submit("f", workload) for workload in workloads[800:]]
        assert await asyncio.gather(*doing, *jobs) == [workload[::-1] for workload in workloads]
        by_g = [workload for number, workload in enumerate(workloads[:800]) if number // 4 % 2]
        assert sorted(job.workload for job in done_by_g) == by_g
        assert len(done_by_f) == 1 + len(workloads) - len(by_g)
