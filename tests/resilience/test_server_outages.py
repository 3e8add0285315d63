"""Real job servers that are killed, restarted, paused and full, with jobs outstanding."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from geartrain import (
    Admin,
    Client,
    ConnectionLostError,
    GearmanError,
    Job,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NoServersError,
    ServerError,
)
from geartrain.client.routing import hash_index
from tests.support.environment import without_coverage
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, ask
from tests.support.inside import rounds_missed, session_of
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.raw_worker import echo_worker, raw_worker


@pytest.fixture
def two_gearmands(tmp_path: Path) -> Iterator[tuple[Gearmand, Gearmand]]:
    """Two servers, for tests that need real processes to stop."""
    with Gearmand(tmp_path) as one, Gearmand(tmp_path) as two:
        yield one, two


async def created(*jobs: Job) -> None:
    for job in jobs:
        await job.created()


# Killed.


async def test_a_killed_server_fails_its_jobs_with_their_known_outcome(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        jobs = [client.submit("f", b"%d" % n) for n in range(100)]
        await created(*jobs)
        job_server.kill()
        await asyncio.wait(jobs)
        for job in jobs:
            error = job.exception()
            assert isinstance(error, ConnectionLostError)
            assert (error.outcome, error.server) == ("accepted", job_server.address)
            assert job.handle is not None
            assert error.handle == job.handle.handle
        with pytest.raises(NoServersError):
            await client.do("f")


async def test_of_two_servers_the_jobs_of_the_killed_one_are_retried_at_the_other(
    start_job_server: JobServerStarter,
) -> None:
    one, two = start_job_server(), start_job_server()
    async with (
        Client([one.address, two.address], balance="round-robin") as client,
        raw_worker(two.address, "f") as worker,
    ):
        jobs = [client.submit("f", b"%d" % n, retry_count=1) for n in range(20)]
        await created(*jobs)
        one.kill()
        for _ in jobs:
            await worker.complete_next()
        assert await asyncio.gather(*jobs) == [b"%d" % n if n < 10 else (b"%d" % n)[::-1] for n in range(20)]
        assert sorted(job.tries for job in jobs) == [1] * 10 + [2] * 10
        statistics = client.statistics()
        assert (statistics.completed, statistics.failed, statistics.retried) == (20, 10, 10)


async def test_without_retries_only_the_jobs_of_the_killed_server_fail(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with (
        Client([one.address, two.address], balance="round-robin") as client,
        raw_worker(two.address, "f") as worker,
    ):
        jobs = [client.submit("f") for _ in range(10)]
        await created(*jobs)
        one.kill()
        for _ in range(5):
            await worker.complete_next()
        await asyncio.wait(jobs)
        assert [job.exception() is None for job in jobs] == [False, True] * 5


async def test_one_of_two_servers_may_be_dead_from_the_start(start_job_server: JobServerStarter) -> None:
    dead, alive = start_job_server(), start_job_server()
    dead.kill()
    async with Client([dead.address, alive.address], balance="first") as client, echo_worker(alive.address, "f"):
        assert [r async for r in client.map("f", [b"%02d" % n for n in range(20)])] == [
            (b"%02d" % n)[::-1] for n in range(20)
        ]
        assert client.statistics().retried == 0


async def test_map_continues_when_a_server_is_killed(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    async with (
        Client([one.address, two.address], balance="round-robin") as client,
        echo_worker(one.address, "f"),
        echo_worker(two.address, "f"),
    ):
        results = []
        async with aclosing(client.map("f", (b"%04d" % n for n in range(400)), limit=20, retry_count=5)) as iterator:
            async for result in iterator:
                results.append(result)
                if len(results) == 100:
                    one.kill()
        assert results == [(b"%04d" % n)[::-1] for n in range(400)]


# Restarted.


async def test_a_restarted_server_is_used_again(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        lost = client.submit("f")
        await created(lost)
        job_server.restart()
        with pytest.raises(ConnectionLostError):
            await lost
        async with echo_worker(job_server.address, "f"):
            assert await client.do("f", b"ab") == b"ba"


async def test_a_retry_after_a_restart_gets_its_result_although_the_handle_is_reused(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        job = client.submit("f", b"ab", retry_count=10)
        before = await job.created()
        job_server.restart()
        async with echo_worker(job_server.address, "f"):
            assert await job == b"ba"
        assert job.handle == before, "handles start at 1 again"


async def test_one_retry_survives_a_server_that_is_down_for_a_while(job_server: AnyJobServer) -> None:
    retries: list[int] = []
    async with Client([job_server.address]) as client:
        jobs = [client.submit("f", b"%02d" % n, retry_count=1, on_retry=retries.append) for n in range(20)]
        await created(*jobs)
        job_server.kill()
        # Each has tried to connect several times, which takes about a second.
        await eventually(lambda: all(rounds_missed(job) >= 3 for job in jobs))
        job_server.restart()
        async with echo_worker(job_server.address, "f"):
            assert await asyncio.gather(*jobs) == [(b"%02d" % n)[::-1] for n in range(20)]
        assert [job.tries for job in jobs] == [2] * 20
        assert retries == [1] * 20
        assert client.statistics().retried == 20


async def test_a_late_result_of_an_old_handle_never_goes_to_a_new_job(job_server: AnyJobServer) -> None:
    """The worker does not know that the server was replaced; the new server knows that it does not have the job."""
    async with Client([job_server.address]) as client:
        old = client.submit("f", b"old")
        async with raw_worker(job_server.address, "f") as worker:
            job = await worker.grab()
        job_server.restart()
        with pytest.raises(ConnectionLostError):
            await old
        new = client.submit("f", b"new")
        assert (await new.created()).handle.encode() == job.handle
        async with raw_worker(job_server.address, "f") as worker:
            worker.complete(job, b"late result of the old job")
            await worker.flush()
            assert len(worker.errors) == 1
            await worker.complete_next(b"right")
        assert await new == b"right"


async def test_a_handle_of_an_old_connection_means_nothing_on_a_new_one(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        waiting = client.submit("f", retry_count=1, try_timeout=30)
        await created(waiting)
        job_server.restart()
        await eventually(lambda: waiting.tries == 2)
        other = client.submit("f", b"other")
        await created(waiting, other)
        async with raw_worker(job_server.address, "f") as worker:
            for _ in range(2):
                job = await worker.grab()
                worker.complete(job, job.handle)
        for job_ in (waiting, other):
            assert job_.handle is not None
            assert await job_ == job_.handle.handle.encode()


# Paused.


async def test_a_paused_server_is_lost_after_the_heartbeat_and_used_again_when_it_continues(gearmand: Gearmand) -> None:
    async with Client([gearmand.address], heartbeat=0.2) as client:
        accepted = client.submit("f")
        await created(accepted)
        gearmand.pause()
        sent = client.submit("f")
        await asyncio.wait([accepted, sent])
        outcomes = []
        for job in (accepted, sent):
            error = job.exception()
            assert isinstance(error, ConnectionLostError)
            outcomes.append(error.outcome)
        assert outcomes == ["accepted", "unacknowledged"]
        gearmand.resume()
        async with echo_worker(gearmand.address, "g"):
            assert await client.do("g", b"ab", retry_count=3) == b"ba"


async def test_of_two_servers_the_paused_one_loses_only_its_own_jobs(two_gearmands: tuple[Gearmand, Gearmand]) -> None:
    one, two = two_gearmands
    async with (
        Client([one.address, two.address], heartbeat=0.2, balance="round-robin") as client,
        raw_worker(two.address, "f") as worker,
    ):
        jobs = [client.submit("f", retry_count=1) for _ in range(10)]
        await created(*jobs)
        one.pause()
        for _ in jobs:
            await worker.complete_next(b"x")
        assert await asyncio.gather(*jobs) == [b"x"] * 10


# Workers.

WORKER = """
import socket, struct, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for kind, body in ((1, b"f"), (9, b"")):
    sock.sendall(struct.pack(">4sII", b"\\0REQ", kind, len(body)) + body)
kind, size = struct.unpack(">4xII", sock.recv(12, socket.MSG_WAITALL))
sock.recv(size, socket.MSG_WAITALL)
print("grabbed" if kind == 11 else kind, flush=True)
sock.recv(1)
"""


async def test_the_job_of_a_killed_worker_goes_to_another(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client:
        job = client.submit("f", b"ab")
        await created(job)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, str(job_server.port), env=without_coverage(), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"grabbed\n"
        assert (await client.get_status(await job.created())).running
        process.kill()
        await process.wait()
        async with echo_worker(job_server.address, "f"):
            assert await job == b"ba"
        assert job.tries == 1


async def test_a_job_whose_workers_keep_dying_fails(start_job_server: JobServerStarter) -> None:
    server = start_job_server(job_retries=2)
    async with Client([server.address]) as client:
        job = client.submit("f")
        for _ in range(2):
            async with raw_worker(server.address, "f") as worker:
                await worker.grab()
        with pytest.raises(JobFailedError):
            await job


# Late, early, full.


async def test_a_result_after_the_deadline_is_dropped(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, raw_worker(job_server.address, "f") as worker:
        late = client.submit("f", b"late", timeout=0.5)
        job = await worker.grab()
        with pytest.raises(JobTimeoutError) as caught:
            await late
        assert caught.value.handle == job.handle.decode()
        worker.complete(job, b"too late")
        await worker.flush()
        next_one = client.submit("f", b"next")
        await worker.complete_next(b"right")
        assert await next_one == b"right"
        assert client.statistics().servers[job_server.address].late == 1


async def test_jobs_cancelled_before_job_created_do_not_shift_other_replies(job_server: AnyJobServer) -> None:
    async with Client([job_server.address]) as client, echo_worker(job_server.address, "f"):
        await client.do("f")
        jobs = [client.submit("f", b"%04d" % n) for n in range(300)]
        for job in jobs[::3]:
            job.cancel()
        rest = [job for n, job in enumerate(jobs) if n % 3]
        assert await asyncio.gather(*rest) == [job.task.workload[::-1] for job in rest]
        assert all(job.cancelled() for job in jobs[::3])


async def test_a_full_queue_is_a_server_error_and_does_not_affect_other_replies(job_server: AnyJobServer) -> None:
    ask(job_server.port, "create function f")
    ask(job_server.port, "maxqueue f 2")
    async with Client([job_server.address]) as client:
        jobs = [client.submit("f", b"%d" % n) for n in range(5)]
        await asyncio.wait(jobs[2:])
        for job in jobs[2:]:
            error = job.exception()
            assert isinstance(error, ServerError)
            assert (error.code, error.text, error.server) == (
                "QUEUE_ERROR",
                "Job queue is full",
                job_server.address,
            )
        async with echo_worker(job_server.address, "f"):
            assert await asyncio.gather(*jobs[:2]) == [b"0", b"1"]


async def test_a_retry_after_a_full_queue_may_find_room_at_another_server(start_job_server: JobServerStarter) -> None:
    full, free = start_job_server(), start_job_server()
    ask(full.port, "create function f")
    ask(full.port, "maxqueue f 1")
    async with Client([full.address, free.address], balance="round-robin") as client:
        first = client.submit("f", retry_count=1)  # to the full server
        second = client.submit("f", retry_count=1)
        await created(first, second)
        third = client.submit("f", retry_count=1)  # to the full server, rejected, then to the other
        await created(third)
        assert third.tries == 2
        for job in (first, second, third):
            job.cancel()


# Abandoned uniques: gearmand gives a new submission the handle of a queued job whose last client has disconnected,
# and never reports its outcome.


async def test_the_retry_of_an_abandoned_unique_gets_the_right_result_once_there_is_a_worker(
    job_server: AnyJobServer,
) -> None:
    async with Client([job_server.address], heartbeat=0.1) as client:
        job = client.submit("f", b"ab", unique="key", retry_count=5)
        await created(job)
        session_of(job).connection.abort(ConnectionResetError("cut"))  # the only client's, so the job is abandoned
        await eventually(lambda: job.tries == 2 and job.handle is not None)
        async with echo_worker(job_server.address, "f") as done:
            assert await job == b"ba"
            assert [worked.workload for worked in done] == [b"ab"]


async def test_without_retries_an_abandoned_unique_ends_with_job_lost(gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as gone:
        first = gone.submit("f", b"ab", unique="key")
        await created(first)
    assert first.exception() is not None
    # gearmand notices a disconnected client late; a client that joins the job before that saves it.
    async with Admin(gearmand.address) as admin, asyncio.timeout(10):
        while not any(listed.ignored for listed in await admin.show_jobs()):
            pass
    async with Client([gearmand.address], heartbeat=0.1) as client:
        job = client.submit("f", b"ab", unique="key")
        assert await job.created() == first.handle, "it has joined the abandoned job"
        async with echo_worker(gearmand.address, "f") as done:
            with pytest.raises(JobLostError) as caught:
                await job
            assert caught.value.handle == (await job.created()).handle
            assert done == []
            assert await client.do("f", b"ab", unique="key") == b"ba", "the unique is free again"


async def test_a_job_that_joined_a_running_orphan_ends_when_its_worker_dies(gearmand: Gearmand) -> None:
    async with Client([gearmand.address], heartbeat=0.1) as client:
        async with raw_worker(gearmand.address, "f") as worker:
            async with Client([gearmand.address]) as gone:
                orphan = gone.submit("f", b"ab", unique="key")
                await created(orphan)
                await worker.grab()
            assert orphan.exception() is not None
            job = client.submit("f", b"ab", unique="key", retry_count=1)
            assert await job.created() == orphan.handle
        async with echo_worker(gearmand.address, "f"):
            assert await job == b"ba"


# All at once.


async def test_every_job_ends_whatever_is_killed(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    ends: list[tuple[str, object]] = []
    async with Client([one.address, two.address], heartbeat=1, dead_time=0.05) as client:
        jobs = []
        async with echo_worker(two.address, "f"):
            for number in itertools.count():
                options = {"unique": f"{number % 7}"} if number % 2 else {}
                jobs.append(
                    client.submit(
                        "f",
                        b"%d" % (number % 7),
                        retry_count=number % 3,
                        timeout=5,
                        on_complete=lambda data: ends.append(("complete", data)),
                        on_fail=lambda error: ends.append(("fail", error)),
                        **options,  # type: ignore[arg-type]  # keyword options
                    )
                )
                if number == 60:
                    one.kill()
                elif number == 120:
                    one.restart()
                elif number == 200:
                    break
                if number % 5 == 0:
                    await asyncio.sleep(0)
                if number % 11 == 0:
                    jobs[number // 2].cancel()
            async with echo_worker(one.address, "f"):
                await asyncio.wait(jobs)
        await eventually(lambda: len(ends) == len(jobs))
        for job in jobs:
            assert job.cancelled() or isinstance(job.exception(), GearmanError) or job.result() == job.task.workload
        statistics = client.statistics()
        assert statistics.outstanding == 0
        assert statistics.submitted == statistics.completed + statistics.failed + statistics.cancelled


async def test_keys_of_a_dead_server_move_and_return_with_it(two_gearmands: tuple[Gearmand, Gearmand]) -> None:
    servers = two_gearmands
    index = hash_index(b"key", 2)
    home, other = servers[index], servers[1 - index]
    async with Client([server.address for server in servers], dead_time=0.05) as client:
        for down, expected in ((None, home), (home, other)):
            if down is not None:
                down.kill()
                await eventually(lambda: client.statistics().servers[home.address].state != "connected")
            async with echo_worker(expected.address, "f"):
                job = client.submit("f", unique="key")
                await job
                assert job.handle is not None
                assert job.handle.server == expected.address
        home.restart()
        await eventually(lambda: client.statistics().servers[home.address].state == "idle")
        async with echo_worker(home.address, "f"):
            assert await client.do("f", b"ab", unique="key") == b"ba"
