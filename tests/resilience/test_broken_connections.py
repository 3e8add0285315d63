"""Connections that are cut, reset, stalled, slow or deliver one byte at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from geartrain import Admin, Client, ConnectionLostError, JobProgress, JobUpdate, NoServersError, Worker, WorkerJob
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support.eventually import eventually
from tests.support.job_server import AnyJobServer
from tests.support.proxy import Proxy, Way
from tests.support.raw_worker import Assignment, echo_worker, raw_worker
from tests.support.working import working

HEARTBEAT = 0.2  # seconds


@asynccontextmanager
async def wired(job_server: AnyJobServer, heartbeat: float = HEARTBEAT) -> AsyncIterator[tuple[Proxy, Client]]:
    """A client connected to the job server through a proxy."""
    async with Proxy(job_server.address) as proxy, Client([proxy.address], heartbeat=heartbeat) as client:
        yield proxy, client


async def measure(job_server: AnyJobServer) -> dict[Way, int]:
    """Return the number of bytes in each direction for one completed job of two bytes (more for a longer handle)."""
    async with echo_worker(job_server.address, "f"), wired(job_server, 30) as (proxy, client):
        await client.do("f", b"00")
        return {way: proxy.passed(way) for way in Way.BOTH}


def make_worker(address: str) -> Worker:
    worker = Worker([address], heartbeat=HEARTBEAT, concurrency=5)

    @worker.function("f")
    async def backwards(job: WorkerJob) -> bytes:
        job.send_data(job.workload)
        job.send_status(1, 2)
        return job.workload[::-1]

    return worker


# Cut.


@pytest.mark.parametrize("way", list(Way.BOTH))
async def test_wherever_the_connection_is_cut_one_retry_gives_the_right_result(
    way: Way, job_server: AnyJobServer
) -> None:
    async def cut_after(size: int) -> bytes:
        async with wired(job_server, 30) as (proxy, client):
            proxy.cut_after(way, size)
            return await client.do("f", b"%02d" % size, retry_count=1)

    sizes = range(1, (await measure(job_server))[way] + 1, 3)
    async with echo_worker(job_server.address, "f"):
        answers = await asyncio.gather(*(cut_after(size) for size in sizes))
    assert answers == [(b"%02d" % size)[::-1] for size in sizes]


async def test_wherever_the_direction_to_the_server_is_cut_the_error_states_the_outcome(
    job_server: AnyJobServer,
) -> None:
    async def cut_after(size: int) -> ConnectionLostError:
        async with wired(job_server, 30) as (proxy, client):
            proxy.cut_after(Way.TO_SERVER, size)
            with pytest.raises(ConnectionLostError) as caught:
                await client.do("f", b"%02d" % size)
            return caught.value

    whole = (await measure(job_server))[Way.TO_SERVER]
    done: list[Assignment]
    async with echo_worker(job_server.address, "f") as done:
        errors = await asyncio.gather(*(cut_after(size) for size in range(1, whole)))
        assert {(error.outcome, error.handle) for error in errors} == {("unacknowledged", None)}
        async with Client([job_server.address]) as client:  # queued after all of them
            await client.do("f", b"00")
        assert [job.workload for job in done] == [b"00"], "an incomplete submission must not run"


async def test_wherever_the_direction_to_the_client_is_cut_the_error_states_the_outcome(
    job_server: AnyJobServer,
) -> None:
    """The outcome follows from the packets that arrived completely, whose size depends on the handle."""

    async def cut_after(size: int) -> str:
        async with wired(job_server, 30) as (proxy, client):
            proxy.cut_after(Way.TO_CLIENT, size)
            passed = proxy.record(Way.TO_CLIENT)
            job = client.submit("f", b"%02d" % size)
            await asyncio.wait([job])
            packets = Decoder(RESPONSE).feed(bytes(passed))
            bodies = {kind: body for kind, (body,) in packets}
            error = job.exception()
            if error is None:
                assert bodies[PacketType.WORK_COMPLETE].endswith(b"\0" + job.result())
                return "complete"
            assert PacketType.WORK_COMPLETE not in bodies
            assert len(passed) == size
            assert isinstance(error, ConnectionLostError)
            created = bodies.get(PacketType.JOB_CREATED)
            assert error.outcome == ("unacknowledged" if created is None else "accepted")
            assert (error.handle and error.handle.encode()) == created
            return error.outcome

    whole = (await measure(job_server))[Way.TO_CLIENT]
    longest = whole + 2 * len("999")  # the handle occurs twice, and ends with a number
    async with echo_worker(job_server.address, "f"):
        outcomes = await asyncio.gather(*(cut_after(size) for size in range(1, longest)))
    assert set(outcomes) == {"unacknowledged", "accepted", "complete"}


async def test_after_a_reset_the_error_has_its_cause_and_other_jobs_are_retried(job_server: AnyJobServer) -> None:
    async with wired(job_server, 30) as (proxy, client):
        once = client.submit("f")
        twice = [client.submit("f", b"%02d" % n, retry_count=1) for n in range(20)]
        await asyncio.gather(*(job.created() for job in (once, *twice)))
        await proxy.reset()
        with pytest.raises(ConnectionLostError) as caught:
            await once
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        async with echo_worker(job_server.address, "f"):
            assert await asyncio.gather(*twice) == [(b"%02d" % n)[::-1] for n in range(20)]


async def test_a_client_survives_any_number_of_cuts(job_server: AnyJobServer) -> None:
    async with wired(job_server, 30) as (proxy, client), echo_worker(job_server.address, "f"):
        for number in range(10):
            job = client.submit("f", b"%02d" % number, retry_count=1)
            await eventually(lambda: proxy.connections)
            proxy.cut()
            assert await job == (b"%02d" % number)[::-1]
        assert proxy.accepted >= 10


# Stalled.


async def test_a_submission_that_stalls_is_lost_unacknowledged(job_server: AnyJobServer) -> None:
    async with wired(job_server) as (proxy, client), echo_worker(job_server.address, "f"):
        await client.do("f")
        proxy.stall(Way.TO_SERVER)
        with pytest.raises(ConnectionLostError) as caught:
            await client.do("f")
        assert caught.value.outcome == "unacknowledged"
        proxy.resume()
        assert await client.do("f", b"ab") == b"ba"


async def test_a_reply_that_stalls_is_lost_and_its_late_copy_is_dropped(job_server: AnyJobServer) -> None:
    async with wired(job_server) as (proxy, client), raw_worker(job_server.address, "f") as worker:
        job = client.submit("f", b"ab", retry_count=3)
        await job.created()
        proxy.stall(Way.TO_CLIENT)
        await worker.complete_next(b"late")
        await eventually(lambda: job.tries > 1)
        proxy.resume()
        await worker.complete_next(b"right")
        assert await job == b"right"


async def test_a_stall_shorter_than_the_heartbeat_has_no_effect(job_server: AnyJobServer) -> None:
    async with wired(job_server, 30) as (proxy, client), echo_worker(job_server.address, "f"):
        await client.do("f")
        proxy.stall()
        jobs = [client.submit("f", b"%02d" % n) for n in range(50)]
        await asyncio.sleep(0)
        proxy.resume()
        assert await asyncio.gather(*jobs) == [(b"%02d" % n)[::-1] for n in range(50)]
        assert proxy.accepted == 1


async def test_a_connection_that_is_silent_from_the_start_is_lost(job_server: AnyJobServer) -> None:
    async with wired(job_server) as (proxy, client), echo_worker(job_server.address, "f"):
        await proxy.play_dead()
        job = client.submit("f", b"ab", retry_count=3)
        await eventually(lambda: job.tries == 2)
        await proxy.heal()
        assert await job == b"ba"


async def test_a_server_that_refuses_connections_is_used_again_once_it_accepts_them(job_server: AnyJobServer) -> None:
    async with wired(job_server) as (proxy, client), echo_worker(job_server.address, "f") as done:
        await proxy.refuse()
        with pytest.raises(NoServersError):
            await client.do("f", b"never sent", retry_count=3)
        await proxy.accept()
        assert await client.do("f", b"ab") == b"ba"
        assert [job.workload for job in done] == [b"ab"]


async def test_a_worker_whose_connection_stalls_reconnects_and_its_job_is_done(job_server: AnyJobServer) -> None:
    async with (
        Proxy(job_server.address) as proxy,
        Client([job_server.address]) as client,
        working(make_worker(proxy.address)),
    ):
        assert await client.do("f", b"ab") == b"ba"
        proxy.stall(Way.TO_CLIENT)
        job = client.submit("f", b"cd")
        await eventually(lambda: proxy.accepted > 1)  # the worker has closed the first connection
        proxy.resume()
        assert await job == b"dc"


# Slow, and byte by byte.


async def test_a_slow_connection_is_not_mistaken_for_a_dead_one(job_server: AnyJobServer) -> None:
    async with wired(job_server, 0.5) as (proxy, client), echo_worker(job_server.address, "f"):
        proxy.delay(0.05)
        jobs = [client.submit("f", b"%02d" % n) for n in range(50)]
        assert await asyncio.gather(*jobs) == [(b"%02d" % n)[::-1] for n in range(50)]
        assert proxy.accepted == 1


async def test_jobs_work_when_every_byte_arrives_separately(job_server: AnyJobServer) -> None:
    async with wired(job_server, 30) as (proxy, client), Proxy(job_server.address) as to_worker:
        proxy.split()
        to_worker.split()
        async with working(make_worker(to_worker.address)):
            received: list[JobUpdate] = []
            for workload in (b"", b"\0REQ\0\0\0", b"ab" * 50):
                job = client.submit("f", workload)
                updates = [update async for update in job]
                assert updates == [(workload,), JobProgress(1, 2)]
                received += updates
                assert await job == workload[::-1]
            assert len(received) == 6
        async with Admin(proxy.address) as admin:
            assert [row.function for row in await admin.status()] == ["f"]
