"""A connection outlives the request that opened it, and keeps nothing of the request's contextvars."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from geartrain import Client, Worker
from tests.support.fake_server import fake_server
from tests.support.job_server import AnyJobServer
from tests.support.working import working

request: ContextVar[object] = ContextVar("request", default=None)


class Session:
    """What an application keeps in its context while it serves a request."""


async def serve(work: Callable[[], Awaitable[object]]) -> weakref.ref[Session]:
    """Do some work in a request of its own, and return a reference to what the request had in its context."""

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


async def test_a_retry_does_not_keep_the_context_of_a_request_that_has_given_up() -> None:
    async with fake_server() as server, Client([server.address], exceptions=False) as client:

        async def give_up() -> None:
            job = client.submit("f", retry_count=9)
            (await server.accept()).close()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await job

        assert await collected(await serve(give_up))
