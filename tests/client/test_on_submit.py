"""``on_submit``: what it is called with, what it may return, and what it must not change."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from geartrain import Client, JobFailedError, Task
from geartrain.client.routing import hash_index
from geartrain.protocol.packets import PacketType
from tests.support.fake_client import fake_client
from tests.support.fake_server import fake_server

REQUEST: ContextVar[str] = ContextVar("request", default="none")


async def test_the_task_that_it_returns_is_sent_in_place_of_the_submitted_one() -> None:
    seen: list[Task] = []
    done: list[bytes] = []

    def on_submit(task: Task) -> Task:
        seen.append(task)
        return task.replace(function="g", workload=task.workload + b"!", unique="key", on_complete=done.append)

    async with fake_client(on_submit=on_submit) as (client, server):
        task = Task("f", b"w")
        job = client.add_task(task)
        other = client.submit("f", b"x")
        peer = await server.accept()
        assert await peer.expect_job(b"H:1") == [b"g", b"key", b"w!"]
        assert await peer.expect_job(b"H:2") == [b"g", b"key", b"x!"]
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"result")
        peer.send(PacketType.WORK_COMPLETE, b"H:2", b"")
        assert (await job, await other) == (b"result", b"")
        assert job.task is seen[0] is task
        assert (other.task, other.task.workload) == (seen[1], b"x")
    assert done == [b"result", b""]


async def test_the_task_is_sent_as_it_is_if_it_returns_none() -> None:
    async with fake_client(on_submit=lambda task: None) as (client, server):
        done: list[bytes] = []
        job = client.submit("f", b"w", unique="mine", on_complete=done.append)
        peer = await server.accept()
        assert await peer.expect_job(b"H:1") == [b"f", b"mine", b"w"]
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"")
        await job
    assert done == [b""]


async def test_it_is_called_once_for_each_try_with_the_submitted_task_in_the_context_of_the_submission() -> None:
    """With the client's callbacks of that try, and with the timeouts of the first one."""
    events: list[object] = []

    def on_submit(task: Task) -> Task:
        number = sum(isinstance(event, tuple) for event in events)
        events.append((task, REQUEST.get()))
        REQUEST.set("changed by the hook")
        return task.replace(
            unique=f"try {number}",
            timeout=100.0 + number,
            try_timeout=50.0 + number,
            on_retry=lambda attempt: events.append(f"retry of {number}"),
            on_fail=lambda error: events.append(f"end of {number}"),
        )

    async with fake_client(on_submit=on_submit) as (client, server):
        REQUEST.set("7")
        job = client.submit("f", b"w", retry_count=1)
        assert REQUEST.get() == "7"
        REQUEST.set("8")
        peer = await server.accept()
        assert await peer.expect_job(b"H:1") == [b"f", b"try 0", b"w"]
        peer.send(PacketType.WORK_FAIL, b"H:1")
        assert await peer.expect_job(b"H:2") == [b"f", b"try 1", b"w"]
        peer.send(PacketType.WORK_FAIL, b"H:2")
        with pytest.raises(JobFailedError):
            await job
    assert events == [(job.task, "7"), (job.task, "7"), "retry of 0", "end of 1"]
    assert job.tries == 2


async def test_another_job_server_for_the_same_try_does_not_call_it_again() -> None:
    seen: list[Task] = []
    options: Any = {"balance": "first", "exceptions": False, "on_submit": seen.append}
    async with fake_server() as live, Client(["127.0.0.1:1", live.address], **options) as client:
        job = client.submit("f")
        peer = await live.accept()
        await peer.expect_job(b"H:1")
        peer.send(PacketType.WORK_COMPLETE, b"H:1", b"")
        await job
    assert len(seen) == 1


@pytest.mark.parametrize("given", [None, "chooses the second"])
async def test_a_unique_that_it_adds_or_removes_does_not_choose_the_job_server(given: str | None) -> None:
    """The submitted task does."""
    added = next(f"{number}" for number in range(100) if hash_index(f"{number}".encode(), 2) == 1)
    unique = None if given is None else added
    async with fake_server() as first, fake_server() as second:
        servers = [first.address, second.address]
        async with Client(
            servers,
            balance="first",
            exceptions=False,
            on_submit=lambda task: task.replace(unique=added if given is None else None),
        ) as client:
            job = client.submit("f", b"w", unique=unique)
            peer = await (first if given is None else second).accept()
            assert await peer.expect_job(b"H:1") == [b"f", b"" if given else added.encode(), b"w"]
            peer.send(PacketType.WORK_COMPLETE, b"H:1", b"")
            await job


async def test_a_background_job_gets_its_unique_instead_of_a_generated_one() -> None:
    async with fake_client(on_submit=lambda task: task.replace(unique="key")) as (client, server):
        job = client.submit("f", b"w", background=True)
        peer = await server.accept()
        assert await peer.expect_job(b"H:1") == [b"f", b"key", b"w"]
        assert (await job.created()).unique == "key"
        assert await job == b""


async def test_each_job_of_a_map_is_passed_to_it() -> None:
    async with fake_client(on_submit=lambda task: task.replace(workload=task.workload.upper())) as (client, server):
        results = client.map("f", [b"a", b"b", b"c"])
        first = asyncio.ensure_future(anext(results))
        peer = await server.accept()
        for number in range(3):
            [_, _, workload] = await peer.expect_job(b"H:%d" % number)
            peer.send(PacketType.WORK_COMPLETE, b"H:%d" % number, workload)
        assert [await first, *[result async for result in results]] == [b"A", b"B", b"C"]


def raise_error(task: Task) -> Task:
    raise LookupError("no context")


@pytest.mark.parametrize(
    ("on_submit", "error", "message"),
    [
        (raise_error, LookupError, "no context"),
        (lambda task: next(iter(())), RuntimeError, "on_submit raised StopIteration"),
        (lambda task: "f", TypeError, "on_submit must return a Task or None, got 'f'"),
        (lambda task: task.replace(background=True), ValueError, "on_submit must not change background"),
        (lambda task: task.replace(unique="x" * 64), ValueError, "a unique must have at most 63 bytes"),
        (lambda task: task.replace(workload=bytes(2000)), ValueError, "exceeds max_packet_size 1024"),
    ],
)
async def test_what_it_raises_or_returns_wrongly_ends_the_job(
    on_submit: Any, error: type[Exception], message: str
) -> None:
    failed: list[BaseException] = []
    async with Client(["127.0.0.1:1"], on_submit=on_submit, max_packet_size=1024) as client:
        job = client.submit("f", timeout=100.0, on_fail=failed.append)
        with pytest.raises(error, match=message):
            await job
        with pytest.raises(error, match=message):
            await client.do("f")
        await client.drain()
    assert [type(each) for each in failed] == [error]


async def test_what_it_raises_at_a_retry_ends_the_job() -> None:
    seen: list[Task] = []

    def on_submit(task: Task) -> None:
        seen.append(task)
        if len(seen) == 2:
            raise LookupError("no context")

    async with fake_client(on_submit=on_submit) as (client, server):
        job = client.submit("f", retry_count=5, try_timeout=100.0)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(PacketType.WORK_FAIL, b"H:1")
        with pytest.raises(LookupError):
            await job


async def test_it_is_not_called_with_a_task_that_cannot_be_sent() -> None:
    seen: list[Task] = []
    async with Client(["127.0.0.1:1"], on_submit=seen.append, max_packet_size=1024) as client:
        with pytest.raises(ValueError, match="exceeds max_packet_size 1024"):
            client.submit("f", bytes(2000))
    assert not seen


async def coroutine_function(task: Task) -> None:
    pass


@pytest.mark.parametrize("hook", [coroutine_function, 5])
def test_it_must_be_a_function(hook: Any) -> None:
    with pytest.raises(TypeError, match="on_submit must be a function, and not a coroutine function, got "):
        Client(on_submit=hook)
