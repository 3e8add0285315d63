"""How a worker starts, reconnects and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from geartrain.errors import JobFailedError, LocalProtocolError, NoServersError
from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from geartrain.worker import Worker, WorkerJob
from tests.support.async_wire import AsyncWire, connected
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, free_port
from tests.support.inside import session_of_worker
from tests.support.job_server import AnyJobServer, JobServerStarter
from tests.support.scripted import ScriptedServer, scripted_server, sleep_forever
from tests.support.wire import Wire, packet
from tests.support.working import working
from tests.worker.test_worker import Gate, add_reverse


def jobs_of(server: AnyJobServer | Gearmand, function: str) -> tuple[int, int, int]:
    """Return the counts of a function from its job server: jobs, running, workers."""
    with Wire(server.port) as admin:
        for line in admin.ask(b"status"):
            name, *numbers = line.decode().rstrip("\n").rsplit("\t", 3)
            if name == function:
                jobs, running, workers = map(int, numbers)
                return jobs, running, workers
    return 0, 0, 0


# stop().


async def test_stop_finishes_the_running_jobs_and_takes_no_more(job_server: AnyJobServer) -> None:
    worker, gate = Worker(job_server.address), Gate()
    worker.function("f")(gate)
    async with working(worker) as run, connected(job_server.address) as client:
        await client.submit("f", b"running")
        await eventually(lambda: gate.running)
        async with connected(job_server.address) as other:
            await other.submit("f", b"queued", kind=PacketType.SUBMIT_JOB_BG)
        worker.stop()
        gate.open()
        assert await client.updates() == [("WORK_COMPLETE", b"running")]
        await run
    assert len(gate.jobs) == 1
    await eventually(lambda: jobs_of(job_server, "f") == (1, 0, 0))


async def test_results_of_jobs_that_end_at_stop_have_arrived_when_run_returns(job_server: AnyJobServer) -> None:
    worker, gate = Worker(job_server.address, concurrency=50), Gate()
    worker.function("f")(gate)
    async with working(worker) as run, connected(job_server.address) as client:
        results = asyncio.create_task(client.do_many("f", [b"%d" % number for number in range(50)]))
        await eventually(lambda: gate.running == 50)
        worker.stop()
        gate.open()
        await run
        assert jobs_of(job_server, "f")[:2] == (0, 0)
        assert len(await results) == 50
    await eventually(lambda: jobs_of(job_server, "f") == (0, 0, 0))


@pytest.mark.parametrize("where", ["function", "callback", "thread", "signal"])
async def test_stop_may_be_called_from_anywhere(job_server: AnyJobServer, where: str) -> None:
    worker = Worker(job_server.address)

    @worker.function("f")
    async def f(job: WorkerJob) -> str:
        if where == "function":
            worker.stop()
        return "done"

    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.stop())
    try:
        async with connected(job_server.address) as client:
            run = asyncio.create_task(worker.run())
            assert await client.do("f") == ("WORK_COMPLETE", b"done")
            if where == "callback":
                loop.call_soon(worker.stop)
            elif where == "thread":
                threading.Thread(target=worker.stop).start()
            elif where == "signal":
                os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(run, 10)
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_stop_before_run_makes_it_return_immediately() -> None:
    worker = Worker(f"127.0.0.1:{free_port()}")
    add_reverse(worker)
    worker.stop()
    await worker.run()


async def test_stop_ends_run_immediately_if_no_job_server_is_up() -> None:
    worker = Worker([f"127.0.0.1:{free_port()}"])
    add_reverse(worker)
    async with working(worker) as run:
        await asyncio.sleep(0)
        worker.stop()
        await run


async def test_a_worker_may_run_again_but_not_twice_at_the_same_time(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    add_reverse(worker)
    for workload in (b"ab", b"cd"):
        async with working(worker), connected(job_server.address) as client:
            assert await client.do("reverse", workload) == ("WORK_COMPLETE", workload[::-1])
            with pytest.raises(LocalProtocolError, match="already running"):
                await worker.run()


# Cancellation.


async def begin_a_job(job_server: AnyJobServer, client: AsyncWire, gate: Gate) -> asyncio.Task[None]:
    """Run a worker that has started a job of the client, which does not end until the gate is opened."""
    worker = Worker(job_server.address)
    worker.function("reverse")(gate)
    run = asyncio.create_task(worker.run())
    await client.submit("reverse", b"ab")
    await eventually(lambda: gate.running)
    return run


async def test_cancelling_run_ends_it_immediately_and_returns_the_jobs(job_server: AnyJobServer) -> None:
    second, gate = Worker(job_server.address), Gate()
    add_reverse(second)
    async with connected(job_server.address) as client:
        run = await begin_a_job(job_server, client, gate)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert gate.running == 0
        async with working(second):
            assert await client.updates() == [("WORK_COMPLETE", b"ba")]


@pytest.mark.parametrize("turns", range(1, 5))
async def test_cancelling_run_twice_returns_the_jobs_as_well(job_server: AnyJobServer, turns: int) -> None:
    second, gate = Worker(job_server.address), Gate()
    add_reverse(second)
    async with connected(job_server.address) as client:
        run = await begin_a_job(job_server, client, gate)
        run.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        async with working(second):
            assert await client.updates() == [("WORK_COMPLETE", b"ba")]


async def test_a_function_that_is_slow_to_cancel_does_not_delay_the_end_of_its_job(
    job_server: AnyJobServer,
) -> None:
    first, second = Worker(job_server.address), Worker(job_server.address)
    started, done = asyncio.Event(), asyncio.Event()

    @first.function("reverse")
    async def slow(job: WorkerJob) -> str:
        started.set()
        try:
            await sleep_forever()
        finally:
            await done.wait()
        return ""

    add_reverse(second)
    async with connected(job_server.address) as client:
        run = asyncio.create_task(first.run())
        await client.submit("reverse", b"ab")
        await started.wait()
        run.cancel()
        async with working(second):
            assert await client.updates() == [("WORK_COMPLETE", b"ba")]
        assert not run.done()
        done.set()
        with pytest.raises(asyncio.CancelledError):
            await run


# Reconnecting.


async def test_a_restarted_job_server_is_served_again(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    add_reverse(worker)
    async with working(worker):
        async with connected(job_server.address) as client:
            assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
        job_server.restart()
        async with connected(job_server.address) as client:
            assert await client.do("reverse", b"cd") == ("WORK_COMPLETE", b"dc")
        assert jobs_of(job_server, "reverse") == (0, 0, 1)  # registered once


async def test_a_result_that_outlives_its_connection_is_not_sent_on_the_next(job_server: AnyJobServer) -> None:
    """A restarted job server reuses handles from 1, so the result would go to a different job."""
    worker, gate = Worker(job_server.address, concurrency=2), Gate()
    worker.function("f")(gate)
    async with working(worker):
        async with connected(job_server.address) as client:
            handle = await client.submit("f", b"old")
            await eventually(lambda: gate.running)
        job_server.restart()
        await eventually(lambda: gate.jobs[0].lost)
        async with connected(job_server.address) as client:
            assert await client.submit("f", b"new") == handle
            await eventually(lambda: gate.running == 2)
            gate.open()
            assert await client.updates() == [("WORK_COMPLETE", b"new")]


async def test_a_dead_job_server_does_not_affect_a_live_one(
    job_server: AnyJobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The system's name resolution cannot be cancelled, and keeps a socket open until a name server has replied.
    monkeypatch.setattr(socket, "getaddrinfo", find_nothing)
    worker = Worker([f"127.0.0.1:{free_port()}", job_server.address, "no-such-host.invalid"])
    add_reverse(worker)
    async with working(worker), connected(job_server.address) as client:
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")


async def test_a_job_server_that_is_started_late_is_found(gearmand: Gearmand, tmp_path: Path) -> None:
    late = Gearmand(tmp_path)
    worker = Worker([gearmand.address, late.address])
    add_reverse(worker)
    async with working(worker), connected(gearmand.address) as client:
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
        with late:
            async with connected(late.address) as other:
                assert await other.do("reverse", b"cd") == ("WORK_COMPLETE", b"dc")


# Misbehaving job servers.


async def read_packet(reader: asyncio.StreamReader) -> tuple[PacketType, bytes]:
    _, kind, size = HEADER.unpack(await reader.readexactly(HEADER.size))
    return PacketType(kind), await reader.readexactly(size)


@asynccontextmanager
async def answering(answers: dict[PacketType, bytes]) -> AsyncIterator[tuple[ScriptedServer, list[PacketType]]]:
    """A job server that always replies to a type of packet with the same bytes."""
    seen: list[PacketType] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, _ = await read_packet(reader)
                seen.append(kind)
                writer.write(answers.get(kind, b""))
        except asyncio.IncompleteReadError:
            return

    async with scripted_server(script) as server:
        yield server, seen


def response(kind: PacketType, *arguments: bytes) -> bytes:
    return packet(kind, *arguments, magic=RESPONSE)


async def test_a_job_server_that_never_replies_takes_no_slot_from_the_others(job_server: AnyJobServer) -> None:
    async with answering({}) as (hung, seen):
        worker = Worker([hung.address, job_server.address], regrab_interval=0.05, heartbeat=None)
        add_reverse(worker)
        async with working(worker), connected(job_server.address) as client:
            await eventually(lambda: PacketType.GRAB_JOB_UNIQ in seen)
            for _ in range(3):
                assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")
        assert hung.connections == 1


async def test_the_worker_reconnects_to_a_job_server_whose_reply_is_overdue() -> None:
    async with answering({}) as (hung, _):
        worker = Worker(hung.address, heartbeat=0.1)
        add_reverse(worker)
        async with working(worker):
            await eventually(lambda: hung.connections == 2)


async def test_a_silent_job_server_is_probed() -> None:
    """While the only job runs, nothing else is sent over its connection, perhaps for hours."""
    answers = {PacketType.GRAB_JOB_UNIQ: response(PacketType.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"", b"")}
    async with answering(answers) as (server, seen):
        worker, gate = Worker(server.address, heartbeat=0.1), Gate()
        worker.function("f")(gate)
        async with working(worker):
            await eventually(lambda: PacketType.ECHO_REQ in seen)
            await eventually(lambda: server.connections == 2)
            assert gate.jobs[0].lost
            gate.open()


async def test_a_worker_that_does_not_wait_ends_when_no_job_server_can_be_reached(job_server: AnyJobServer) -> None:
    away = f"127.0.0.1:{free_port()}"
    worker = Worker([away, job_server.address])
    add_reverse(worker)
    run = asyncio.create_task(worker.run(wait_for_servers=False))
    async with connected(job_server.address) as client:
        assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba"), "one of two is enough"
    job_server.kill()
    with pytest.raises(NoServersError, match="no job server could be reached: ") as caught:
        await run
    assert set(caught.value.errors) == {away, job_server.address}
    assert worker.state == "idle"


async def test_a_worker_that_does_not_wait_ends_if_it_is_hung_up_on() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with scripted_server(hang_up) as server:
        worker = Worker(server.address)
        add_reverse(worker)
        with pytest.raises(NoServersError, match=server.address):
            await worker.run(wait_for_servers=False)


async def test_the_worker_reconnects_to_a_job_server_that_breaks_the_protocol(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "geartrain.worker")
    async with answering({PacketType.CAN_DO: response(PacketType.JOB_CREATED, b"H:1")}) as (server, _):
        worker = Worker(server.address)
        add_reverse(worker)
        async with working(worker):
            await eventually(lambda: server.connections == 2)
    assert "a job server sent JOB_CREATED to a worker" in caplog.text


async def test_a_job_that_the_server_has_forgotten_is_logged_and_never_fatal(caplog: pytest.LogCaptureFixture) -> None:
    answers = {
        PacketType.GRAB_JOB_UNIQ: response(PacketType.JOB_ASSIGN_UNIQ, b"H:1", b"reverse", b"", b"ab"),
        PacketType.WORK_COMPLETE: response(PacketType.ERROR, b"JOB_NOT_FOUND", b"Job given in work result not found"),
        PacketType.ECHO_REQ: response(PacketType.ECHO_RES, b"geartrain"),
    }
    async with answering(answers) as (server, seen):
        worker = Worker(server.address)
        add_reverse(worker)
        async with working(worker):
            await eventually(lambda: seen.count(PacketType.WORK_COMPLETE) > 3)
        assert server.connections == 1
    assert "JOB_NOT_FOUND Job given in work result not found" in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_jobs_of_perls_server_are_requested_with_grab_job(caplog: pytest.LogCaptureFixture) -> None:
    """It does not know GRAB_JOB_UNIQ, and does not end a job at WORK_EXCEPTION."""
    answers = {
        PacketType.GRAB_JOB_UNIQ: response(PacketType.ERROR, b"server_error", b"at Server.pm line 1"),
        PacketType.GRAB_JOB: response(PacketType.JOB_ASSIGN, b"H:1", b"f", b"ab"),
        PacketType.ECHO_REQ: response(PacketType.ECHO_RES, b"geartrain"),
    }
    async with answering(answers) as (server, seen):
        worker, uniques = Worker(server.address), []

        @worker.function("f")
        async def f(job: WorkerJob) -> None:
            uniques.append(job.unique)
            raise ValueError("no")

        async with working(worker):
            await eventually(lambda: seen.count(PacketType.WORK_EXCEPTION) > 2)
    order = [kind.name for kind in seen[:7]]
    assert order == ["SET_CLIENT_ID", "CAN_DO", "GRAB_JOB_UNIQ", "GRAB_JOB", "WORK_EXCEPTION", "WORK_FAIL", "GRAB_JOB"]
    assert set(uniques) == {""}


async def test_a_job_server_that_wakes_workers_without_jobs_gets_fewer_grabs() -> None:
    """gearmand 1.1.20 does so while a LOW job waits behind an EPOCH job."""
    answers = {
        PacketType.GRAB_JOB_UNIQ: response(PacketType.NO_JOB),
        PacketType.PRE_SLEEP: response(PacketType.NOOP),
        PacketType.ECHO_REQ: response(PacketType.ECHO_RES, b"geartrain"),
    }
    loop = asyncio.get_running_loop()
    async with answering(answers) as (server, seen):
        worker = Worker(server.address)
        add_reverse(worker)
        async with working(worker):
            await eventually(lambda: seen.count(PacketType.PRE_SLEEP) >= 4)
            session = session_of_worker(worker)
            await eventually(lambda: session.protocol.grab_after - loop.time() > 0.1)


async def test_a_low_job_behind_an_epoch_job_does_not_keep_the_worker_from_other_work(gearmand: Gearmand) -> None:
    worker = Worker(gearmand.address)
    add_reverse(worker)
    worker.function("f")(Gate())
    async with connected(gearmand.address) as client:
        await client.submit_at("f", 2**33)
        await client.submit("f", kind=PacketType.SUBMIT_JOB_LOW_BG)
        async with working(worker):
            for _ in range(5):
                assert await client.do("reverse", b"ab") == ("WORK_COMPLETE", b"ba")


# Other clients.

PERL_CLIENT = """
use Gearman::Client;
my $client = Gearman::Client->new(job_servers => [$ARGV[0]], exceptions => 1, prefix => "app");
print ${$client->do_task("reverse", "perl", {on_status => sub { print "$_[0]/$_[1] " }})}, " ";
$client->do_task("fail", "", {on_fail => sub { print "failed" }});
"""


async def run_program(*command: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    return process.returncode, output


async def test_jobs_of_the_gearman_tool_are_run(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address)
    add_reverse(worker)
    async with working(worker):
        command = ("gearman", "-h", "127.0.0.1", "-p", str(job_server.port), "-f", "reverse")
        assert await run_program(*command, "hello") == (0, b"olleh")


async def test_jobs_of_perls_client_are_run(job_server: AnyJobServer) -> None:
    worker = Worker(job_server.address, prefix="app")

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        job.send_status(3, 4)
        return job.workload[::-1]

    @worker.function("fail")
    async def fail(job: WorkerJob) -> bytes:
        raise JobFailedError("no")

    async with working(worker):
        assert await run_program("perl", "-e", PERL_CLIENT, job_server.address) == (0, b"3/4 lrep failed")


async def test_ten_workers_on_two_job_servers_run_every_job_once(start_job_server: JobServerStarter) -> None:
    servers = [start_job_server(), start_job_server()]
    ran: list[bytes] = []
    workers = [Worker([server.address for server in servers], concurrency=3) for _ in range(10)]
    for worker in workers:

        @worker.function("f")
        async def f(job: WorkerJob) -> bytes:
            ran.append(job.workload)
            return job.workload

    workloads = [b"%d" % number for number in range(500)]
    async with working(*workers), connected(servers[0].address) as one, connected(servers[1].address) as other:
        results = await asyncio.gather(one.do_many("f", workloads[:250]), other.do_many("f", workloads[250:]))
    assert sorted(results[0] + results[1]) == sorted(ran) == sorted(workloads)
