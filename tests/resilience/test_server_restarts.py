"""gearmand terminated, restarted under load, out of file descriptors, and moved to another address."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from geartrain import Admin, Client, ConnectionLostError, Job, NoServersError, Worker, WorkerJob
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.host_names import names
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.listening_ports import listens
from tests.support.proxy import Proxy
from tests.support.raw_worker import echo_worker, raw_worker
from tests.support.wire import Wire
from tests.support.working import working


@pytest.fixture
def two_gearmands(tmp_path: Path) -> Iterator[tuple[Gearmand, Gearmand]]:
    with Gearmand(tmp_path) as one, Gearmand(tmp_path) as two:
        yield one, two


def make_worker(*addresses: str, heartbeat: float | None = 30.0) -> Worker:
    worker = Worker(addresses, concurrency=10, heartbeat=heartbeat)

    @worker.function("f")
    async def backwards(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    return worker


def count_workers(server: AnyJobServer) -> int:
    with Wire(server.port) as wire:
        return sum(b" : " in line for line in wire.ask(b"workers"))


@contextmanager
def without_descriptors(server: Gearmand) -> Iterator[None]:
    """Leave a server no file descriptor for a new connection."""
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


# Terminated.


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_the_jobs_of_a_terminated_server_move_to_the_other(
    sign: signal.Signals, two_gearmands: tuple[Gearmand, Gearmand]
) -> None:
    one, two = two_gearmands
    async with Client([one.address, two.address], balance="round-robin") as client:
        jobs = [client.submit("f", b"%02d" % n, retry_count=n // 2 % 2) for n in range(20)]
        await asyncio.gather(*(job.created() for job in jobs))
        one.kill(sign)
        async with echo_worker(two.address, "f"):
            ends = await asyncio.gather(*jobs, return_exceptions=True)
        for number, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            if number % 2 == 0 and job.task.retry_count == 0:
                assert isinstance(end, ConnectionLostError)
                assert (end.outcome, end.server) == ("accepted", one.address)
            else:
                assert end == (b"%02d" % number)[::-1]
                assert job.tries == (2 if number % 2 == 0 else 1)


async def test_a_server_that_shuts_down_gracefully_finishes_its_jobs_and_the_other_takes_over(
    two_gearmands: tuple[Gearmand, Gearmand],
) -> None:
    """On SIGUSR1 gearmand accepts no new connections, and exits after the last job."""
    one, two = two_gearmands
    lost: list[str] = []
    async with (
        Client(
            [one.address, two.address], balance="first", on_disconnected=lambda server, _: lost.append(server)
        ) as client,
        raw_worker(one.address, "f") as worker,
    ):
        jobs = [client.submit("f", b"%d" % n) for n in range(5)]
        await asyncio.gather(*(job.created() for job in jobs))
        os.kill(one.pid, signal.SIGUSR1)
        await eventually(lambda: not listens(one.pid, one.port))
        late = client.submit("f", b"5")  # on the existing connection
        await late.created()  # the server would have exited if the other jobs had ended before
        for number in range(6):
            assert (await worker.complete_next()).workload == b"%d" % number
        assert await asyncio.gather(*jobs, late) == [b"%d" % n for n in range(6)]
        assert [job.tries for job in (*jobs, late)] == [1] * 6

        def has_ended() -> bool:
            worker.send(PacketType.ECHO_REQ, b"")  # it checks for jobs only when a packet arrives
            return lost == [one.address]

        await eventually(has_ended)
        async with echo_worker(two.address, "f"):
            assert await client.do("f", b"ab") == b"ba"
        assert client.statistics().failed == 0


async def test_a_single_server_that_shuts_down_gracefully_is_unreachable(gearmand: Gearmand) -> None:
    async with Client([gearmand.address]) as client:
        async with echo_worker(gearmand.address, "f"):
            assert await client.do("f", b"ab") == b"ba"
        os.kill(gearmand.pid, signal.SIGUSR1)  # it has no job, so it exits immediately
        await eventually(lambda: client.statistics().servers[gearmand.address].state != "connected")
        with pytest.raises(NoServersError):
            await client.do("f")


# Restarted under load.


async def test_of_2_000_jobs_over_five_restarts_each_gets_its_own_result(gearmand: Gearmand) -> None:
    workloads = [b"%04d" % n for n in range(2000)]
    results = []
    async with (
        Client([gearmand.address], heartbeat=1) as client,
        working(make_worker(gearmand.address, heartbeat=1)),
        aclosing(client.map("f", workloads, limit=50, retry_count=10)) as answers,
    ):
        async for result in answers:
            results.append(result)
            if len(results) % 350 == 0:
                gearmand.restart()
        assert results == [workload[::-1] for workload in workloads]
        statistics = client.statistics()
        assert statistics.retried == statistics.failed > 0
        assert statistics.outstanding == 0


# Out of file descriptors: the kernel completes the handshake of a connection that the server cannot accept.


async def test_a_server_without_file_descriptors_is_lost_and_used_again_once_it_has_some(
    gearmand: Gearmand,
) -> None:
    async with Client([gearmand.address], heartbeat=0.2) as client, echo_worker(gearmand.address, "f"):
        with without_descriptors(gearmand), pytest.raises(ConnectionLostError) as caught:
            await client.do("f")
        assert caught.value.outcome == "unacknowledged"
        assert await client.do("f", b"ab", retry_count=3) == b"ba"


async def test_without_file_descriptors_existing_connections_continue(gearmand: Gearmand) -> None:
    async with Client([gearmand.address], heartbeat=0.2) as client, echo_worker(gearmand.address, "f"):
        await client.do("f")
        with without_descriptors(gearmand):
            assert [answer async for answer in client.map("f", [b"ab"] * 50)] == [b"ba"] * 50


async def test_if_one_server_has_no_file_descriptors_the_other_gets_the_jobs(
    two_gearmands: tuple[Gearmand, Gearmand],
) -> None:
    one, two = two_gearmands
    async with (
        Client([one.address, two.address], heartbeat=0.2, balance="first") as client,
        echo_worker(two.address, "f"),
    ):
        with without_descriptors(one):
            jobs = [client.submit("f", b"%02d" % n, retry_count=1) for n in range(20)]
            assert await asyncio.gather(*jobs) == [(b"%02d" % n)[::-1] for n in range(20)]
            assert [job.tries for job in jobs] == [2] * 20


async def test_a_worker_serves_the_other_server_and_reconnects_once_there_are_file_descriptors(
    two_gearmands: tuple[Gearmand, Gearmand],
) -> None:
    one, two = two_gearmands
    async with AsyncExitStack() as stack, Client([two.address]) as client:
        with without_descriptors(one):
            await stack.enter_async_context(working(make_worker(one.address, two.address, heartbeat=0.2)))
            assert await client.do("f", b"ab") == b"ba"
        await eventually(lambda: count_workers(one) == 1)
        async with Client([one.address]) as other:
            assert await other.do("f", b"cd") == b"dc"


# Moved: a host name resolves to another address than before, or to several of which one is dead.


@asynccontextmanager
async def moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Gearmand, Gearmand, str]]:
    """Two addresses with the same port, the first with a server; yields both and their host name."""
    with Gearmand(tmp_path) as old:
        new = Gearmand(tmp_path, port=old.port, host="127.0.0.2")
        names(monkeypatch, "127.0.0.1")
        try:
            yield old, new, f"jobs.example:{old.port}"
        finally:
            new.kill()


@pytest.mark.parametrize("leaves", ["it is killed", "it is paused"])
async def test_client_and_worker_follow_a_host_name_to_a_replaced_server(
    leaves: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moving(tmp_path, monkeypatch) as (old, new, name), Client([name], heartbeat=0.2) as client:
        worker = make_worker(name, heartbeat=0.2)
        job = client.submit("late", b"ab", retry_count=1)
        async with working(worker):
            assert await client.do("f", b"ab") == b"ba"
            await job.created()
            new.start()
            names(monkeypatch, "127.0.0.2")
            if leaves == "it is killed":
                old.kill()
            else:
                old.pause()
            async with echo_worker(new.address, "late"):
                assert await job == b"ba"
            assert await client.do("f", b"cd", retry_count=2) == b"dc"


@pytest.mark.parametrize("addresses", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")])
async def test_a_host_name_with_a_dead_and_a_live_address_uses_the_live_one(
    addresses: tuple[str, ...], gearmand: Gearmand, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, *addresses)
    name = f"jobs.example:{gearmand.port}"
    async with Client([name]) as client, Admin(name) as admin, working(make_worker(name)):
        jobs = [client.submit("f", b"%02d" % n) for n in range(20)]
        assert await asyncio.gather(*jobs) == [(b"%02d" % n)[::-1] for n in range(20)]
        assert [job.tries for job in jobs] == [1] * 20
        assert "f" in [row.function for row in await admin.status()]


async def test_one_of_two_servers_may_be_down_from_the_start(
    start_job_server: JobServerStarter,
) -> None:
    dead, alive = start_job_server(), start_job_server()
    dead.kill()
    servers = [dead.address, alive.address]
    async with Client(servers) as client, working(make_worker(*servers)):
        answers = [answer async for answer in client.map("f", (b"%03d" % n for n in range(200)))]
        assert answers == [(b"%03d" % n)[::-1] for n in range(200)]
        by_key: list[Job] = [
            client.submit("f", b"ab", unique=f"{n}") for n in range(20)
        ]  # half of them hash to this server
        assert await asyncio.gather(*by_key) == [b"ba"] * 20
        assert client.statistics().retried == 0


# Abandoned uniques after a cut connection.


async def test_a_retry_that_joins_its_own_abandoned_job_gets_the_right_result(job_server: AnyJobServer) -> None:
    """gearmand drops the queued job of a disconnected client, together with clients that have joined it since."""
    async with Proxy(job_server.address) as proxy, Client([proxy.address], heartbeat=0.1) as client:
        job = client.submit("f", b"ab", unique="key", retry_count=2)
        await job.created()
        proxy.cut()
        await eventually(lambda: job.tries == 2 and job.handle is not None)
        async with echo_worker(job_server.address, "f") as done:
            assert await job == b"ba"
            assert [worked.workload for worked in done] == [b"ab"]


async def test_a_retry_that_joins_its_own_running_orphan_gets_its_result(job_server: AnyJobServer) -> None:
    async with (
        Proxy(job_server.address) as proxy,
        Client([proxy.address], heartbeat=0.1) as client,
        raw_worker(job_server.address, "f") as worker,
    ):
        job = client.submit("f", b"ab", unique="key", retry_count=1)
        running = await worker.grab()
        proxy.cut()
        await eventually(lambda: job.tries == 2 and job.handle is not None)
        worker.complete(running, b"from the first run")
        assert await job == b"from the first run"


async def test_a_retry_that_joins_its_own_running_orphan_survives_the_death_of_its_worker(
    job_server: AnyJobServer,
) -> None:
    """A running job without clients is dropped with its worker; clients that have joined it since get no reply."""
    async with Proxy(job_server.address) as proxy, Client([proxy.address], heartbeat=0.1) as client:
        job = client.submit("f", b"ab", unique="key", retry_count=2)
        async with raw_worker(job_server.address, "f") as worker:
            await worker.grab()
            proxy.cut()
            await eventually(lambda: job.tries == 2 and job.handle is not None)
        async with echo_worker(job_server.address, "f"):
            assert await job == b"ba"
