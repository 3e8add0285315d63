"""A connection outlives the request that opened it, and keeps nothing of the request's contextvars."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from geartrain import AdminGroup, Client, JobServer, Worker, WorkerJob
from tests.support.eventually import eventually
from tests.support.fake_server import fake_server
from tests.support.job_server import AnyJobServer
from tests.support.working import working

request: ContextVar[object] = ContextVar("request", default=None)


class Session:
    """An object that an application keeps in its context while it handles a request."""


async def serve(work: Callable[[], Awaitable[object]]) -> weakref.ref[Session]:
    """Do some work in a separate request, and return a reference to the session in the request's context."""

    async def handle() -> weakref.ref[Session]:
        session = Session()
        request.set(session)
        await work()
        return weakref.ref(session)

    return await asyncio.create_task(handle())


async def collected(session: weakref.ref[Session]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    return session() is None


async def map_all(client: Client) -> None:
    assert [result async for result in client.map("f", [b""] * 5)] == [b"done"] * 5


WORK: dict[str, Callable[[Client], Awaitable[object]]] = {
    "do": lambda client: client.do("f"),
    "do with a timeout": lambda client: client.do("f", timeout=3600),
    "do of a large workload": lambda client: client.do("f", bytes(5_000_000)),
    "submit": lambda client: client.submit("f"),
    "map": map_all,
    "do_background": lambda client: client.do_background("f"),
    "ping": lambda client: client.ping(),
    "get_status_unique": lambda client: client.get_status_unique("u"),
    "drain": lambda client: client.drain(timeout=3600),
    "workers_for": lambda client: client.workers_for("f"),
}


@pytest.mark.parametrize("name", [name for name in WORK if name != "workers_for"])
async def test_a_client_does_not_keep_the_context_of_a_request(name: str, job_server: AnyJobServer) -> None:
    seen: list[object] = []
    worker = Worker([job_server.address])
    worker.function("f")(lambda job: b"done")
    client = Client([job_server.address], on_disconnected=lambda *_: seen.append(request.get()))
    async with working(worker), client:
        session = await serve(lambda: WORK[name](client))
        assert await collected(session)
    await asyncio.sleep(0)
    assert not any(seen)


async def test_a_retry_does_not_keep_the_context_of_an_abandoned_request() -> None:
    async with fake_server() as server, Client([server.address], exceptions=False) as client:

        async def abandon() -> None:
            job = client.submit("f", retry_count=9)
            (await server.accept()).close()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await job

        assert await collected(await serve(abandon))


async def test_an_admin_client_does_not_keep_the_context_of_a_request(job_server: AnyJobServer) -> None:
    async with AdminGroup([job_server.address], timeout=3600) as group:
        assert await collected(await serve(group.status))


async def test_a_job_server_does_not_keep_the_context_in_which_it_was_started() -> None:
    server = JobServer("localhost", 0)

    async def start() -> None:
        await server.start()

    try:
        session = await serve(start)
        async with Client([server.address]) as client:
            await client.ping()
            # An EPOCH job sets a timer.
            await client.do_background("f", run_at=time.time() + 3600)
            assert await collected(session)
    finally:
        await server.aclose()


async def test_a_job_sees_the_context_of_run_but_not_of_another_job() -> None:
    seen: list[tuple[object, object]] = []
    last: ContextVar[object] = ContextVar("last", default=None)
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address])

        @worker.function("coroutine")
        async def coroutine(job: WorkerJob) -> None:
            seen.append((request.get(), last.get()))
            last.set(job.workload)

        @worker.function("thread")
        def thread(job: WorkerJob) -> None:
            seen.append((request.get(), last.get()))
            last.set(job.workload)

        request.set("run")
        async with working(worker):
            # While a job runs the next one is assigned, and started when the first one ends.
            for function in ("coroutine", "thread"):
                await asyncio.gather(*(client.do(function, b"%d" % number) for number in range(5)))
    assert seen == [("run", None)] * 10


@pytest.mark.parametrize("name", ["coroutine", "thread"])
async def test_a_worker_does_not_keep_the_context_of_a_job(name: str, job_server: AnyJobServer) -> None:
    sessions: list[weakref.ref[Session]] = []
    worker = Worker([job_server.address])

    def use_session() -> None:
        session = Session()
        request.set(session)
        sessions.append(weakref.ref(session))

    @worker.function("coroutine")
    async def coroutine(job: WorkerJob) -> None:
        use_session()

    worker.function("thread")(lambda job: use_session())
    async with working(worker), Client([job_server.address]) as client:
        for _ in range(3):
            await client.do(name)
        await eventually(lambda: not gc.collect() and all(session() is None for session in sessions))
    assert len(sessions) == 3
