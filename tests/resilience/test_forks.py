"""A forked child can neither use nor disturb its parent's connections."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest

from geartrain import Admin, Client, Job, JobServer, Worker, WorkerJob, spawn
from geartrain.protocol.packets import PacketType
from tests.conftest import LOOPS, open_sockets
from tests.support import certificates
from tests.support.eventually import eventually
from tests.support.forked_process import finish, fork, in_child
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer
from tests.support.public_calls import Call, client_calls, job_calls, outcomes
from tests.support.wire import Wire
from tests.support.working import working


def refused(calls: Mapping[str, Call], what: str) -> str:
    """Return the outcomes if all calls are rejected."""
    why = f"{what} belongs to process {os.getpid()}, from which this one was forked; create another one here"
    return "\n".join(f"{name}: LocalProtocolError: {why}" for name in calls)


@contextmanager
def held_job(client: Client, address: str) -> Iterator[tuple[Job, Callable[[], None]]]:
    """Submit a job, and return a function that makes its worker complete it with ``b"answer"``."""
    with Wire(int(address.rpartition(":")[2])) as worker:
        worker.send(PacketType.CAN_DO, b"held")
        job = client.submit("held")

        def complete() -> None:
            worker.send(PacketType.GRAB_JOB)
            _, assigned = worker.receive()
            worker.send(PacketType.WORK_COMPLETE, assigned.split(b"\0")[0], b"answer")
            worker.nothing_more()

        yield job, complete


@pytest.mark.parametrize("alias", [None, "Gearman"])
async def test_a_client_is_rejected_in_a_forked_child_and_the_parents_job_ends(
    alias: str | None, job_server: AnyJobServer
) -> None:
    async with Client([job_server.address], alias=alias) as client:
        with held_job(client, job_server.address) as (job, complete):
            await job.created()
            calls = client_calls(client)
            assert await in_child(lambda: outcomes(calls)) == refused(calls, "this Client")
            jobs = job_calls(client, job)
            assert await in_child(lambda: outcomes(jobs)) == refused(jobs, "this Job")
            complete()
            assert await job == b"answer"
        assert client.statistics().outstanding == 0


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_forked_child_that_continues_the_loop_takes_nothing_from_the_parent(
    loop_name: str, gearmand: Gearmand
) -> None:
    async def turn() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    loop = LOOPS[loop_name]()
    client = Client([gearmand.address])

    async def submit() -> Job:
        job = client.submit("held")
        await job.created()
        return job

    def use() -> str:
        try:
            loop.run_until_complete(client.do("held"))
        except Exception as error:  # noqa: BLE001  # the outcome to report
            answer = f"{type(error).__name__}: {error}"
        loop.run_until_complete(turn())
        return answer

    with Wire(gearmand.port) as worker:
        worker.send(PacketType.CAN_DO, b"held")
        job = loop.run_until_complete(submit())
        worker.send(PacketType.GRAB_JOB)
        _, assigned = worker.receive()
        worker.send(PacketType.WORK_COMPLETE, assigned.split(b"\0")[0], b"answer")
        worker.nothing_more()  # so the reply is in the client's socket buffer when the child reads
        answer = finish(*fork(use))
        assert answer.startswith("LocalProtocolError: this Client belongs to process"), answer
        assert loop.run_until_complete(job) == b"answer"
    loop.run_until_complete(client.aclose())
    loop.close()


@asynccontextmanager
async def everything(tls: bool) -> AsyncIterator[tuple[Client, set[str]]]:
    """Open every kind of socket; yield the client and the sockets: a listener and both ends of three connections."""
    before = open_sockets(asyncio.get_running_loop())
    theirs = certificates.for_client() if tls else None
    async with JobServer(port=0, tls=certificates.for_server() if tls else None) as server:
        worker = Worker([server.address], tls=theirs)
        worker.function("f")(str)
        async with (
            Client([server.address], tls=theirs) as client,
            Admin(server.address, tls=theirs) as admin,
            working(worker),
        ):
            await eventually(worker.ready)
            await client.do_background("g")
            await admin.version()
            yield client, open_sockets(asyncio.get_running_loop()) - before


@pytest.mark.parametrize("tls", [False, True])
async def test_a_forked_child_has_none_of_its_parents_sockets(tls: bool) -> None:
    async with everything(tls) as (client, sockets):
        assert len(sockets) == 7
        assert await in_child(lambda: repr(open_sockets() & sockets)) == "set()"
        (answer,) = (await client.ping()).values()
        assert isinstance(answer, float)


@pytest.mark.parametrize("tls", [False, True])
async def test_executed_programs_inherit_no_sockets(tls: bool) -> None:
    async with everything(tls) as (_, sockets):
        links = [(int(number), link(number)) for number in os.listdir("/proc/self/fd")]
        ours = [number for number, link in links if link in sockets]
        assert len(ours) == 7
        assert not [number for number in ours if os.get_inheritable(number)]


def link(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # the descriptor of the listing itself
        return ""


async def test_worker_admin_and_job_server_are_rejected_in_a_forked_child(gearmand: Gearmand) -> None:
    worker = Worker([gearmand.address])
    jobs: list[WorkerJob] = []
    release = asyncio.Event()

    @worker.function("held")
    async def held(job: WorkerJob) -> bytes:
        jobs.append(job)
        await release.wait()
        return b"answer"

    async with (
        JobServer(port=0) as server,
        Admin(server.address) as admin,
        Client([gearmand.address]) as client,
        working(worker),
    ):
        answer = client.submit("held")
        version = await admin.version()
        await eventually(lambda: jobs)
        refusals: dict[str, dict[str, Call]] = {
            "this Worker": {
                "run": worker.run,
                "stop": worker.stop,
                "function": lambda: worker.function("more")(str),
            },
            "this WorkerJob": {
                "send_data": lambda: jobs[0].send_data(bytes(100_000)),
                "send_status": lambda: jobs[0].send_status(1, 2),
                "send_warning": lambda: jobs[0].send_warning("w"),
            },
            repr(admin): {"version": admin.version, "aclose": admin.aclose},
            repr(server): {"aclose": server.aclose},
        }
        for what, calls in refusals.items():
            assert await in_child(partial(outcomes, calls)) == refused(calls, what)
        release.set()
        assert await answer == b"answer"
        assert await admin.version() == version


async def test_a_forked_child_that_drops_everything_is_silent_and_harmless(gearmand: Gearmand) -> None:
    unraisable_errors: list[str] = []
    things: list[Any] = []

    def drop() -> str:
        sys.unraisablehook = lambda unraisable: unraisable_errors.append(repr(unraisable.exc_value))
        things.clear()
        gc.collect()
        return repr(unraisable_errors)

    client, admin = spawn(job_servers=[gearmand.address]), Admin(gearmand.address)
    await client.do_background("f")
    await admin.version()
    things += [client, admin]
    unnamed = Client([gearmand.address])
    await unnamed.do_background("f")
    things.append(unnamed)
    del client, admin, unnamed
    assert await in_child(drop) == "[]"
    client, admin, unnamed = things
    for kept in (client, unnamed):
        assert isinstance((await kept.ping())[gearmand.address], float)
        await kept.aclose()
    await admin.aclose()


@pytest.mark.parametrize("used", [False, True])
async def test_an_unused_client_can_be_used_in_a_forked_child(used: bool, gearmand: Gearmand) -> None:
    client = Client([gearmand.address])
    if used:
        await client.do_background("f")
        await client.disconnect_all()

    async def use() -> None:
        async with client:
            await client.do_background("f")

    answer = await in_child(lambda: outcomes({"use": use}))
    assert answer == "use: None"
