"""Job servers that ignore OPTION_REQ or ECHO_REQ, as Python's gear does: nothing fails because of that."""

from __future__ import annotations

import asyncio

import pytest

from geartrain import Admin, Client, JobFailedError, ServerTimeoutError, Worker, WorkerJob
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client
from tests.support.ignoring_server import ignoring
from tests.support.job_server import AnyJobServer
from tests.support.working import working

P = PacketType

HEARTBEAT = 0.1

ignored = pytest.mark.parametrize(
    "kinds",
    [(P.OPTION_REQ,), (P.ECHO_REQ,), (P.OPTION_REQ, P.ECHO_REQ)],
    ids=lambda kinds: "+".join(k.name for k in kinds),
)


class HeldFunction:
    """A worker function whose jobs wait until the test releases them."""

    def __init__(self) -> None:
        self.jobs: list[WorkerJob] = []
        self.released = asyncio.Event()

    async def __call__(self, job: WorkerJob) -> bytes:
        self.jobs.append(job)
        await self.released.wait()
        return job.workload


def add_functions(worker: Worker) -> None:
    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    @worker.function("fail")
    async def fail(job: WorkerJob) -> bytes:
        raise JobFailedError("no")

    @worker.function("updates")
    async def updates(job: WorkerJob) -> bytes:
        for number in range(3):
            job.send_status(number, 3)
            job.send_data(b"%d" % number)
        return b"end"


@ignored
async def test_every_job_gets_its_own_result(job_server: AnyJobServer, kinds: tuple[P, ...]) -> None:
    async with ignoring(job_server, *kinds) as server:
        worker = Worker(server.address)
        add_functions(worker)
        async with working(worker), Client([server.address]) as client:
            first = client.submit("reverse", b"12")
            pinged = asyncio.ensure_future(client.ping())
            handle = await client.do_background("reverse", b"34", unique="u")
            assert await first == b"21"
            jobs = [client.submit("reverse", b"%d-" % number, unique=f"{number}") for number in range(50)]
            assert [await job for job in jobs] == [(b"%d-" % number)[::-1] for number in range(50)]
            assert [r async for r in client.map("reverse", [b"a1", b"b2"])] == [b"1a", b"2b"]
            with pytest.raises(JobFailedError):
                await client.do("fail")
            assert [str(update) async for update in client.submit("updates")] != []
            assert (await client.get_status(handle)).known in (True, False)
            answer = (await pinged)[server.address]
            assert isinstance(answer, ServerTimeoutError if P.ECHO_REQ in kinds else float)
        assert server.connections == 2


@ignored
async def test_a_job_may_run_for_many_heartbeats(
    job_server: AnyJobServer, kinds: tuple[P, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with ignoring(job_server, *kinds) as server:
        worker, held = Worker(server.address, heartbeat=HEARTBEAT), HeldFunction()
        worker.function("held")(held)
        async with working(worker), Client([server.address], heartbeat=HEARTBEAT) as client:
            job = client.submit("held", b"at last")
            await eventually(lambda: server.passed[P.GET_STATUS] > 20)
            assert not held.jobs[0].lost
            held.released.set()
            assert await job == b"at last"
        assert server.connections == 2
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_a_worker_that_stops_does_not_wait_for_an_echo(job_server: AnyJobServer) -> None:
    async with ignoring(job_server, P.ECHO_REQ) as server:
        worker = Worker(server.address, heartbeat=None)
        add_functions(worker)
        async with Client([job_server.address]) as client, working(worker):
            assert await client.do("reverse", b"12") == b"21"
        assert server.ignored[P.ECHO_REQ] == 1
        assert server.passed[P.GET_STATUS] == 1


async def test_an_idle_connection_is_probed_with_a_request_that_is_not_ignored(job_server: AnyJobServer) -> None:
    async with (
        ignoring(job_server, P.OPTION_REQ, P.ECHO_REQ) as server,
        Client([server.address], heartbeat=HEARTBEAT) as client,
    ):
        await client.do_background("f")
        await eventually(lambda: server.passed[P.GET_STATUS] > 4)
        assert server.connections == 1
        assert server.ignored[P.ECHO_REQ] == 0


async def test_an_idle_connection_is_lost_without_a_warning_and_replaced_for_the_next_job(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "geartrain")
    async with (
        ignoring(job_server, P.ECHO_REQ) as server,
        Client([server.address], heartbeat=HEARTBEAT, exceptions=False) as client,
    ):
        for number in range(3):
            await client.do_background("f")
            assert server.connections == number + 1
            await eventually(lambda: client.statistics().servers[server.address].state == "idle")
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_a_ping_ends_after_the_heartbeat_although_other_packets_arrive() -> None:
    async with fake_client(heartbeat=HEARTBEAT) as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        pinged = asyncio.create_task(client.ping())
        await peer.expect(P.ECHO_REQ)
        while not pinged.done():
            peer.send(P.WORK_DATA, b"H:1", b"and so on")
            await asyncio.sleep(0)
        answer = (await pinged)[server.address]
        assert isinstance(answer, ServerTimeoutError)
        assert answer.server == server.address
        assert round(answer.seconds, 6) >= HEARTBEAT  # the difference of two times of the loop is not exact
        peer.send(P.WORK_COMPLETE, b"H:1", b"done")
        assert await job == b"done"
        assert server.connections == 1


@ignored
async def test_an_admin_client_gets_the_right_replies(job_server: AnyJobServer, kinds: tuple[P, ...]) -> None:
    async with ignoring(job_server, *kinds) as server, Admin(server.address) as admin:
        async with Client([job_server.address]) as client:
            await client.do_background("f", unique=".")
        uniques, status = await asyncio.gather(admin.show_unique_jobs(), admin.status())
        assert [row.unique for row in uniques] == ["."]
        assert [row.function for row in status] == ["f"]
