"""
Cancels each public coroutine at every possible point; its object must still work, and nothing may be leaked.

A scenario returns a coroutine to cancel, and checks the object afterwards. It is repeated, with a later cancellation
each time, until the coroutine finishes by itself: once after 0, 1, 2, ... iterations of the loop, and once at each
suspension, after the awaited future is done and before the coroutine resumes.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import geartrain
from geartrain import (
    Admin,
    AdminGroup,
    Client,
    ClientDisconnectedError,
    Job,
    JobHandle,
    JobServer,
    LocalProtocolError,
    ServerError,
    Worker,
    WorkerJob,
)
from tests.conftest import open_sockets
from tests.support import certificates
from tests.support.cancellation_points import CANCELLERS, WITHIN, Canceller
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand
from tests.support.working import working

Scenario = Callable[["World"], AsyncIterator[Awaitable[Any]]]

SCENARIOS: dict[str, Callable[[World], contextlib.AbstractAsyncContextManager[Awaitable[Any]]]] = {}
"""Scenarios by the coroutine's name, ``Class.name``, with the special circumstances in brackets."""


class World:
    """
    Shared by all runs of one scenario: a job server and a worker.

    Attributes:
        address: The job server's.
        jobs: The jobs of the worker's function ``held``, which returns when the job's event is set.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.jobs: asyncio.Queue[tuple[WorkerJob, asyncio.Event]] = asyncio.Queue()

    def make_worker(self, concurrency: int = 100) -> Worker:
        worker = Worker([self.address], concurrency=concurrency)

        @worker.function("reverse")
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        @worker.function("talk")
        async def talk(job: WorkerJob) -> bytes:
            for number in range(3):
                job.send_status(number, 3)
                await asyncio.sleep(0)
            return job.workload

        @worker.function("held")
        async def held(job: WorkerJob) -> bytes:
            event = asyncio.Event()
            self.jobs.put_nowait((job, event))
            await event.wait()
            return job.workload

        return worker


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    def register(function: Scenario) -> Scenario:
        assert name not in SCENARIOS
        SCENARIOS[name] = asynccontextmanager(function)
        return function

    return register


# Checks that the object still works.


async def client_works(client: Client) -> None:
    async with asyncio.timeout(WITHIN):
        assert await client.do("reverse", b"still") == b"llits"
        await client.drain()
    for server in client.statistics().servers.values():
        assert server.outstanding == server.waiting == 0, server
        assert server.submitted == server.completed + server.failed + server.cancelled, server


async def client_works_or_is_closed(client: Client) -> None:
    """A call that closes it may be cancelled before it has begun."""
    is_open = True
    try:
        client.bind()
    except LocalProtocolError:
        is_open = False
    if is_open:
        await client_works(client)


async def job_server_works(address: str) -> None:
    async with Admin(address) as admin:
        assert await admin.version()


# The client.


async def collect(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


async def slowly() -> AsyncIterator[bytes]:
    for number in range(3):
        await asyncio.sleep(0)
        yield b"%d" % number


async def use(thing: Any) -> None:
    """Enter it, use it, and leave it; a client with a job outstanding, a worker when it is connected."""
    async with thing:
        if isinstance(thing, Client):
            await thing.do("reverse", b"abc")
            thing.submit("nobody").add_done_callback(lambda job: job.exception())
        elif isinstance(thing, JobServer):
            async with Admin(thing.address) as admin:
                await admin.version()
        elif isinstance(thing, Worker):
            while not thing.ready():  # noqa: ASYNC110  # each iteration is one more cancellation point
                await asyncio.sleep(0)
        else:
            await thing.version()


CLIENT_CALLS: dict[str, Callable[[Client, JobHandle], Awaitable[Any]]] = {
    "do": lambda client, _: client.do("reverse", b"abc", timeout=100),
    "do_background": lambda client, _: client.do_background("reverse", b"abc"),
    "map": lambda client, _: collect(client.map("reverse", [b"a", b"b", b"c"], limit=2)),
    "map [asynchronous source]": lambda client, _: collect(client.map("reverse", slowly(), limit=2)),
    "as_completed": lambda client, _: collect(client.as_completed([client.submit("reverse") for _ in range(3)])),
    "get_status": lambda client, handle: client.get_status(handle),
    "get_status_unique": lambda client, _: client.get_status_unique("any"),
    "cancel": lambda client, handle: client.cancel(handle),
    "workers_for": lambda client, _: client.workers_for("reverse"),
    "ping": lambda client, _: client.ping(),
    "aclose": lambda client, _: client.aclose(),
    "disconnect_all": lambda client, _: client.disconnect_all(),
}
JOB_CALLS: dict[str, Callable[[Job], Awaitable[Any]]] = {
    "__await__": lambda job: job,
    "__aiter__": collect,
    "created": lambda job: job.created(),
}


def add_client_scenarios(name: str, call: Callable[[Client, JobHandle], Awaitable[Any]], *, connected: bool) -> None:
    @scenario(f"Client.{name}{' [connected]' if connected else ''}")
    async def run(world: World) -> AsyncIterator[Awaitable[Any]]:
        async with Client([world.address]) as client:
            if connected:
                await client.do("reverse")
            yield call(client, JobHandle(world.address, "H:unknown:1"))
            await (client_works_or_is_closed if name == "aclose" else client_works)(client)


def add_job_scenarios(name: str, call: Callable[[Job], Awaitable[Any]]) -> None:
    @scenario(f"Job.{name}")
    async def run(world: World) -> AsyncIterator[Awaitable[Any]]:
        async with Client([world.address]) as client:
            job = client.submit("talk", b"abc")
            yield call(job)
            if name != "__await__":  # which cancels the job itself
                assert await job == b"abc"
            await client_works(client)


for _name, _call in CLIENT_CALLS.items():
    add_client_scenarios(_name, _call, connected=False)
    add_client_scenarios(_name, _call, connected=True)
for _name, _job_call in JOB_CALLS.items():
    add_job_scenarios(_name, _job_call)


@scenario("Client.drain")
async def drain(world: World) -> AsyncIterator[Awaitable[Any]]:
    async with Client([world.address]) as client:
        job = client.submit("talk", b"abc")
        yield client.drain(timeout=100)
        assert await job == b"abc"
        await client_works(client)


@scenario("Client.do [required worker]")
async def do_where_a_worker_is_required(world: World) -> AsyncIterator[Awaitable[Any]]:
    async with Client([world.address]) as client:
        yield client.do("reverse", b"abc", require_worker=True)
        await client_works(client)


@scenario("Client.disconnect_all [jobs outstanding]")
async def disconnect_all_with_jobs(world: World) -> AsyncIterator[Awaitable[Any]]:
    ended: list[str] = []

    async def on_fail(error: BaseException) -> None:
        await asyncio.sleep(0)
        ended.append(type(error).__name__)

    async with Client([world.address]) as client:
        jobs = [client.submit("nobody", on_fail=on_fail) for _ in range(2)]
        await jobs[0].created()
        yield client.disconnect_all()
        if jobs[0].done():  # otherwise it was cancelled before it started
            with pytest.raises(ClientDisconnectedError):
                await jobs[1]
        else:
            await client.disconnect_all()
        await client_works(client)
    assert ended == ["ClientDisconnectedError"] * 2


@scenario("Client.__aenter__")
@scenario("Client.__aexit__")
async def with_client(world: World) -> AsyncIterator[Awaitable[Any]]:
    client = Client([world.address])
    yield use(client)
    await client_works_or_is_closed(client)
    await client.aclose()


# The worker.


@scenario("Worker.run")
async def run_worker(world: World) -> AsyncIterator[Awaitable[Any]]:
    worker = world.make_worker()

    async def run() -> None:
        stopping = asyncio.ensure_future(stop_when_ready())
        try:
            await worker.run()
        finally:
            stopping.cancel()
            await asyncio.wait([stopping])

    async def stop_when_ready() -> None:
        while not worker.ready():  # noqa: ASYNC110  # each iteration is one more cancellation point
            await asyncio.sleep(0)
        worker.stop()

    yield run()
    assert worker.state == "idle"
    async with working(worker), Client([world.address]) as client:
        await client_works(client)


@scenario("Worker.__aenter__")
@scenario("Worker.__aexit__")
async def with_worker(world: World) -> AsyncIterator[Awaitable[Any]]:
    worker = world.make_worker()
    yield use(worker)
    assert worker.state == "idle"
    async with worker, Client([world.address]) as client:
        await client_works(client)


@scenario("Worker.run [running job]")
async def run_worker_with_a_job(world: World) -> AsyncIterator[Awaitable[Any]]:
    worker = Worker([world.address], grace=100)
    begun = asyncio.Event()

    @worker.function("only here")
    async def only_here(job: WorkerJob) -> bytes:
        begun.set()
        worker.stop()
        for _ in range(3):
            await asyncio.sleep(0)
        return job.workload[::-1]

    async with Client([world.address]) as client:
        job = client.submit("only here", b"abc")
        await job.created()
        yield worker.run()
        assert worker.state == "idle"
        if not job.done():  # it was returned to the server, or its result is on its way
            async with working(worker):
                assert await asyncio.wait_for(job, WITHIN) == b"cba"
        assert job.result() == b"cba"
        await client_works(client)


@scenario("WorkerJob.drain")
async def drain_worker_job(world: World) -> AsyncIterator[Awaitable[Any]]:
    async with Client([world.address]) as client:
        job = client.submit("held", b"abc")
        worker_job, event = await world.jobs.get()
        worker_job.send_data(bytes(4 * 1024 * 1024))  # more than a socket takes at once
        yield worker_job.drain()
        event.set()
        assert await job == b"abc"
        await client_works(client)


# Administration.


async def fail_to_shut_down(admin: Admin) -> None:
    with pytest.raises(ServerError):  # neither gearmand nor our job server knows the command
        await admin.shutdown()


async def drop_function(admin: Admin) -> None:
    with pytest.raises(ServerError, match="function not found"):
        await admin.drop_function("unknown")


ADMIN_CALLS: dict[str, Callable[[Admin], Awaitable[Any]]] = {
    "status": Admin.status,
    "priority_status": Admin.priority_status,
    "workers": Admin.workers,
    "show_jobs": Admin.show_jobs,
    "show_unique_jobs": Admin.show_unique_jobs,
    "version": Admin.version,
    "getpid": Admin.getpid,
    "verbose": Admin.verbose,
    "set_max_queue": lambda admin: admin.set_max_queue("f", 1),
    "create_function": lambda admin: admin.create_function("f"),
    "drop_function": drop_function,
    "cancel_job": lambda admin: admin.cancel_job("H:unknown:1"),
    "shutdown": fail_to_shut_down,
    "aclose": Admin.aclose,
    "__aenter__": use,
    "__aexit__": use,
}
GROUP_CALLS: dict[str, Callable[[AdminGroup], Awaitable[Any]]] = {
    "ask": lambda group: group.ask(Admin.status),
    "status": AdminGroup.status,
    "priority_status": AdminGroup.priority_status,
    "workers": AdminGroup.workers,
    "show_jobs": AdminGroup.show_jobs,
    "show_unique_jobs": AdminGroup.show_unique_jobs,
    "version": AdminGroup.version,
    "aclose": AdminGroup.aclose,
    "__aenter__": use,
    "__aexit__": use,
}


def add_admin_scenarios(name: str, call: Callable[[Admin], Awaitable[Any]], *, connected: bool) -> None:
    @scenario(f"Admin.{name}{' [connected]' if connected else ''}")
    async def run(world: World) -> AsyncIterator[Awaitable[Any]]:
        async with Admin(world.address) as admin:
            version = await admin.version() if connected else ""
            yield call(admin)
            async with asyncio.timeout(WITHIN):
                assert await admin.version() == (version or await admin.version())


def add_group_scenarios(name: str, call: Callable[[AdminGroup], Awaitable[Any]]) -> None:
    @scenario(f"AdminGroup.{name}")
    async def run(world: World) -> AsyncIterator[Awaitable[Any]]:
        async with AdminGroup([world.address]) as group:
            yield call(group)
            async with asyncio.timeout(WITHIN):
                assert isinstance((await group.version())[world.address], str)


for _name, _admin_call in ADMIN_CALLS.items():
    add_admin_scenarios(_name, _admin_call, connected=False)
    add_admin_scenarios(_name, _admin_call, connected=True)
for _name, _group_call in GROUP_CALLS.items():
    add_group_scenarios(_name, _group_call)


# The job server.


@scenario("JobServer.start")
async def start_job_server(world: World) -> AsyncIterator[Awaitable[Any]]:
    server = JobServer(port=0)
    yield server.start()
    with contextlib.suppress(RuntimeError):  # it was not cancelled, and is already running
        await server.start()
    await job_server_works(server.address)
    await server.aclose()


@scenario("JobServer.__aenter__")
@scenario("JobServer.__aexit__")
async def with_job_server(world: World) -> AsyncIterator[Awaitable[Any]]:
    server = JobServer(port=0)
    yield use(server)
    async with server:
        await job_server_works(server.address)


@scenario("JobServer.aclose")
async def close_job_server(world: World) -> AsyncIterator[Awaitable[Any]]:
    server = JobServer(port=0)
    await server.start()
    async with Client([server.address]) as client:
        job = client.submit("nobody", run_at=2**31, background=True)  # this sets the server's timer
        await job
        yield server.aclose()
        await server.aclose()
        async with server:
            await job_server_works(server.address)


# With TLS.


@scenario("Client.ping [TLS]")
async def ping_with_tls(world: World) -> AsyncIterator[Awaitable[Any]]:
    async with (
        JobServer(port=0, tls=certificates.for_server()) as server,
        Client([server.address], tls=certificates.for_client()) as client,
    ):
        yield client.ping()
        assert isinstance((await client.ping())[server.address], float)


@scenario("JobServer.aclose [TLS handshake under way]")
async def close_job_server_in_a_handshake(world: World) -> AsyncIterator[Awaitable[Any]]:
    server = JobServer(port=0, tls=certificates.for_server())
    await server.start()
    tls = certificates.for_client()
    host, _, port = server.address.removeprefix("gearmans://").partition(":")
    _, silent = await asyncio.open_connection(host, int(port))
    async with Client([server.address], tls=tls) as client:
        await client.do_background("nobody")
        yield server.aclose()
        await server.aclose()
    silent.close()
    with contextlib.suppress(ConnectionError):
        await silent.wait_closed()
    async with server, Admin(server.address, tls=tls) as admin:
        assert await admin.version()


# Cancelling at each point.


def coroutines() -> set[str]:
    """Return the names of all public coroutines, awaitables and asynchronous iterables."""
    special = {"__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__"}
    found = set()
    for public in geartrain.__all__:
        thing = getattr(geartrain, public)
        if not inspect.isclass(thing):
            if inspect.iscoroutinefunction(thing):
                found.add(public)
            continue
        for name in dir(thing):
            member = getattr(thing, name)
            asynchronous = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            if name in special or (not name.startswith("_") and (asynchronous or _gives_awaitable(member))):
                found.add(f"{public}.{name}")
    return found


def _gives_awaitable(member: object) -> bool:
    return str(getattr(member, "__annotations__", {}).get("return", "")).startswith(("Async", "Awaitable", "Coroutine"))


def test_every_public_coroutine_has_a_scenario() -> None:
    assert {name.partition(" ")[0] for name in SCENARIOS} == coroutines()


async def sweep(world: World, name: str, canceller: Canceller, numbers: Iterable[int]) -> None:
    """Cancel a scenario at each of its cancellation points in turn, until it finishes before the next one."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        tasks, sockets = asyncio.all_tasks(), open_sockets(loop)
        async with SCENARIOS[name](world) as begun:
            interrupted = await canceller(begun, number)
        await eventually(lambda: asyncio.all_tasks() <= tasks)  # noqa: B023
        await eventually(lambda: open_sockets(loop) <= sockets)  # noqa: B023
        if not interrupted:
            return


def sparsely() -> Iterator[int]:
    """Count to 20, then in growing steps: iterations of the loop during another process's work are arbitrary."""
    number = 0
    while True:
        yield number
        number += 1 + number // 20 * (number // 4)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("canceller", CANCELLERS)
async def test_cancelling_at_any_point_leaks_nothing_and_the_object_still_works(name: str, canceller: str) -> None:
    async with JobServer(port=0) as server:
        world = World(server.address)
        worker = world.make_worker()
        async with working(worker):
            await eventually(worker.ready)
            await sweep(world, name, CANCELLERS[canceller], itertools.count())


@pytest.mark.parametrize(
    "canceller",
    [
        pytest.param(canceller, marks=pytest.mark.loops(loop))
        for canceller, loop in zip(CANCELLERS, ("asyncio", "uvloop"), strict=True)
    ],
)
async def test_cancelling_at_any_point_works_with_gearmand_too(canceller: str, gearmand: Gearmand) -> None:
    world = World(gearmand.address)
    worker = world.make_worker()
    async with working(worker):
        await eventually(worker.ready)
        for name in SCENARIOS:
            if name.startswith(("Client.", "Job.")) and "TLS" not in name:
                await sweep(world, name, CANCELLERS[canceller], sparsely())
