"""Closing and disconnecting wait for all callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from geartrain import Client, ClientDisconnectedError, Job, LocalProtocolError
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import connected, fake_client, submitted

P = PacketType


def slow(events: list[str], name: str, gate: asyncio.Event) -> Any:
    async def callback(*_: object) -> None:
        events.append(f"{name} begins")
        await gate.wait()
        events.append(f"{name} ends")

    return callback


@pytest.mark.parametrize("how", ["aclose", "disconnect_all"])
@pytest.mark.parametrize("last", ["on_complete", "on_fail"])
async def test_closing_waits_for_plain_callbacks_queued_behind_a_coroutine(how: str, last: str) -> None:
    events: list[str] = []
    gate = asyncio.Event()
    options: dict[str, Any] = {
        "on_data": slow(events, "on_data", gate),
        "on_status": lambda *_: events.append("on_status"),
        last: lambda _: events.append(last),
    }
    async with submitted(**options) as (job, peer, client):
        peer.send(P.WORK_DATA, b"H:1", b"")
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"2")
        peer.send(P.WORK_STATUS, b"H:1", b"2", b"2")
        if last == "on_complete":
            peer.send(P.WORK_COMPLETE, b"H:1", b"")
            await job
        else:
            await eventually(lambda: job.status == (2, 2))
        closing = asyncio.ensure_future(getattr(client, how)())
        await eventually(lambda: events == ["on_data begins"])
        gate.set()
        await closing
        assert events == ["on_data begins", "on_data ends", "on_status", "on_status", last]
        await asyncio.wait([job])


async def test_disconnecting_waits_for_the_coroutines_of_many_jobs() -> None:
    events: list[str] = []
    gate = asyncio.Event()
    async with connected() as (client, _, _):
        jobs = [client.submit("f", retry_count=1, on_fail=slow(events, "on_fail", gate)) for _ in range(300)]
        disconnecting = asyncio.ensure_future(client.disconnect_all())
        await eventually(lambda: events.count("on_fail begins") == 300)
        gate.set()
        await disconnecting
        assert events.count("on_fail ends") == 300
        assert all(job.done() for job in jobs)


@pytest.mark.parametrize("coroutine", [False, True])
async def test_closing_waits_for_on_disconnected(coroutine: bool) -> None:
    events: list[str] = []
    gate = asyncio.Event()

    def on_disconnected(*_: object) -> None:
        events.append("on_disconnected ends")

    callback = slow(events, "on_disconnected", gate) if coroutine else on_disconnected
    async with connected(on_disconnected=callback) as (client, _, _):
        closing = asyncio.ensure_future(client.aclose())
        await eventually(lambda: events)
        gate.set()
        await closing
        assert events[-1:] == ["on_disconnected ends"]


async def test_a_callback_cannot_submit_while_the_client_closes() -> None:
    errors: list[BaseException] = []

    async def submit_again(_: BaseException) -> None:
        for call in (lambda: client.submit("f"), lambda: client.bind()):
            try:
                call()
            except LocalProtocolError as error:
                errors.append(error)

    async with connected() as (client, server, _):
        client.submit("f", on_fail=submit_again)
        await client.aclose()
        assert [str(error) for error in errors] == ["this Client is closed; make another one"] * 2
        assert server.connections == 1
        assert client.statistics().outstanding == 0


async def test_a_job_that_a_callback_submits_while_the_client_disconnects_runs() -> None:
    submitted_jobs: list[Job] = []
    async with fake_client() as (client, server):
        client.submit("f", on_fail=lambda _: submitted_jobs.append(client.submit("again")))
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await client.disconnect_all()
        peer = await server.accept()
        assert (await peer.expect_job(b"H:1"))[0] == b"again"
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert await submitted_jobs[0] == b"result"


async def test_disconnecting_waits_for_on_fail_of_a_job_that_a_callback_cancels() -> None:
    events: list[str] = []

    def cancel_another(_: object) -> None:
        client.submit("f", on_fail=lambda _: events.append("on_fail of the other")).cancel()

    async with connected() as (client, server, _):
        client.submit("f", on_fail=cancel_another)
        await client.disconnect_all()
        assert events == ["on_fail of the other"]
        await server.accept()  # for the job that was cancelled


async def test_callbacks_that_close_the_client_wait_for_all_other_callbacks() -> None:
    events: list[str] = []
    gate = asyncio.Event()

    async def close(data: bytes) -> None:
        await client.aclose()
        events.append(f"closed by {data.decode()}")

    async with connected() as (client, _, peer):
        jobs = [client.submit("f", on_data=close, on_fail=lambda _: events.append("on_fail")) for _ in range(2)]
        other = client.submit("f", on_fail=slow(events, "other", gate))
        for number in range(3):
            await peer.expect_job(b"H:%d" % number)
        for number in range(2):
            peer.send(P.WORK_DATA, b"H:%d" % number, b"%d" % number)
        await asyncio.wait([*jobs, other])
        await eventually(lambda: "other begins" in events)
        gate.set()
        await client.aclose()
        assert sorted(events[2:]) == ["closed by 0", "closed by 1", "on_fail", "on_fail"]
        assert events[:2] == ["other begins", "other ends"]


async def test_aclose_completes_a_cancelled_aclose() -> None:
    events: list[str] = []
    go_on = asyncio.Event()

    async def on_fail(*_: object) -> None:
        events.append("on_fail begins")
        await go_on.wait()
        events.append("on_fail ends")

    async with connected() as (client, _, _):
        job = client.submit("f", on_fail=on_fail)
        closing = asyncio.ensure_future(client.aclose())
        await eventually(lambda: events)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert events == ["on_fail begins"]
        go_on.set()
        await client.aclose()
        assert events == ["on_fail begins", "on_fail ends"]
        assert isinstance(job.exception(), ClientDisconnectedError)


async def test_a_client_that_was_closed_is_closed_for_good() -> None:
    async with connected() as (client, _, _):
        await asyncio.wait([asyncio.ensure_future(client.aclose()) for _ in range(2)])
        await client.aclose()
        with pytest.raises(LocalProtocolError, match="closed"):
            client.submit("f")
        with pytest.raises(LocalProtocolError, match="closed"):
            await client.do("f")
        with pytest.raises(LocalProtocolError, match="closed"):
            client.set_job_servers("127.0.0.1:1")


async def test_a_client_that_was_closed_before_its_first_use_is_closed_too() -> None:
    client = Client(["127.0.0.1:1"])
    await client.aclose()
    with pytest.raises(LocalProtocolError, match="closed"):
        client.submit("f")


async def test_closing_a_client_that_was_never_used_does_nothing() -> None:
    client = Client(["127.0.0.1:1"])
    await client.aclose()
    await client.aclose()
    assert client.loop is None
