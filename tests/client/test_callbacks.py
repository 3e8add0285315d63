"""Callbacks run in wire order and in the context of the submitter; they may raise and call the client."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from geartrain import (
    Client,
    ClientDisconnectedError,
    JobExceptionError,
    JobFailedError,
    JobHandle,
    Task,
)
from geartrain.client.callbacks import CallbackRunner, PendingCallbacks
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import fake_server

P = PacketType
NAMES = ("on_created", "on_data", "on_warning", "on_status", "on_retry", "on_exception", "on_complete", "on_fail")


class Recorder:
    """Records each callback with its arguments."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def options(self, *, coroutines: bool = False) -> Any:
        """Return task options with all callbacks."""
        make = self._coroutine if coroutines else self._function
        return {name: make(name) for name in NAMES}

    def _function(self, name: str) -> Any:
        return lambda *arguments: self.events.append((name, *arguments))

    def _coroutine(self, name: str) -> Any:
        async def callback(*arguments: object) -> None:
            self.events.append((name, "begins"))
            for _ in range(3):
                await asyncio.sleep(0)
            self.events.append((name, *arguments))

        return callback

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.events]


async def test_callbacks_are_called_in_wire_order() -> None:
    recorder = Recorder()
    async with submitted(retry_count=1, **recorder.options()) as (job, peer, client):
        peer.send(P.WORK_DATA, b"H:1", b"part")
        peer.send(P.WORK_STATUS, b"H:1", b"1", b"4")
        peer.send(P.WORK_WARNING, b"H:1", b"mind")
        peer.send(P.WORK_STATUS, b"H:1", b"2.5", b"4")
        peer.send(P.WORK_EXCEPTION, b"H:1", b"oops")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_DATA, b"H:2", b"")
        peer.send(P.WORK_COMPLETE, b"H:2", b"result")
        assert await job == b"result"
        await asyncio.sleep(0)
        server = client.job_servers[0]
    assert recorder.events == [
        ("on_created", JobHandle(server, "H:1")),
        ("on_data", b"part"),
        ("on_status", 1, 4),
        ("on_warning", b"mind"),
        ("on_status", 2.5, 4),
        ("on_exception", b"oops"),
        ("on_retry", 1),
        ("on_created", JobHandle(server, "H:2")),
        ("on_data", b""),
        ("on_complete", b"result"),
    ]


async def test_coroutine_functions_run_one_after_the_other_in_wire_order() -> None:
    recorder = Recorder()
    async with submitted(**recorder.options(coroutines=True)) as (job, peer, _client):
        for number in range(3):
            peer.send(P.WORK_DATA, b"H:1", b"%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        await job
        await eventually(lambda: recorder.events[-1:] == [("on_complete", b"result")])
    ends = [event for event in recorder.events if event[1:] != ("begins",)]
    assert [event[0] for event in recorder.events] == [name for name, *_ in ends for _ in range(2)], (
        "callbacks must not overlap"
    )
    assert [event[1:] for event in ends[1:]] == [(b"0",), (b"1",), (b"2",), (b"result",)]


async def test_the_cost_of_queued_callbacks_is_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, turns = 200, 0
    catch_up = CallbackRunner._catch_up

    def counting(callbacks: CallbackRunner) -> None:
        nonlocal turns
        turns += 1
        catch_up(callbacks)

    monkeypatch.setattr(CallbackRunner, "_catch_up", counting)
    recorder = Recorder()
    async with submitted(**recorder.options(coroutines=True)) as (job, peer, _client):
        for number in range(count):
            peer.send(P.WORK_DATA, b"H:1", b"%d" % number)
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        await eventually(lambda: recorder.events[-1] == ("on_complete", b""))
        assert [event[1] for event in recorder.events if event[0] == "on_data"][1::2] == [
            b"%d" % n for n in range(count)
        ]
    assert turns < 5 * count


async def test_a_callback_does_not_overtake_callbacks_queued_behind_a_slow_one() -> None:
    """After the slow one has ended, one queued callback runs per loop turn; others can be scheduled in between."""
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[None] = loop.create_future()
    order: list[object] = []
    pending = PendingCallbacks()

    async def on_data(data: bytes) -> None:
        await gate
        order.append(data)

    def on_status(numerator: int, denominator: int) -> None:
        order.append(numerator)
        if numerator < 3:
            callbacks.schedule("on_status", numerator + 3, 6)

    callbacks = CallbackRunner({"on_data": on_data, "on_status": on_status}, loop, pending)
    callbacks.schedule("on_data", b"slow")
    for numerator in range(4):
        callbacks.schedule("on_status", numerator, 6)
    await asyncio.sleep(0)
    gate.set_result(None)
    await pending.wait(10)
    assert order == [b"slow", 0, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ((P.WORK_FAIL, b"H:1"), JobFailedError),
        ((P.WORK_EXCEPTION, b"H:1", b"x"), JobExceptionError),
    ],
)
async def test_on_fail_is_called_last_with_the_error_that_await_raises(end: Any, error: type[Exception]) -> None:
    recorder = Recorder()
    async with submitted(**recorder.options()) as (job, peer, _client):
        peer.send(*end)
        with pytest.raises(error) as caught:
            await job
        await eventually(lambda: recorder.names[-1] == "on_fail")
    assert recorder.events[-1] == ("on_fail", caught.value)
    assert "on_complete" not in recorder.names


async def test_on_fail_is_called_for_a_cancelled_job() -> None:
    recorder = Recorder()
    async with submitted(**recorder.options()) as (job, _peer, _client):
        job.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await job
        await eventually(lambda: recorder.names == ["on_created", "on_fail"])
    assert isinstance(recorder.events[-1][1], asyncio.CancelledError)
    assert recorder.events[-1][1].args == ("enough",)


async def test_a_status_that_is_not_numeric_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    async with submitted(**recorder.options()) as (job, peer, _client):
        for numbers in ((b"abc", b"1"), (b"1", b""), (b"1", b"nan"), (b"1", b"9" * 300 + b"e99"), (b"7", b"8")):
            peer.send(P.WORK_STATUS, b"H:1", *numbers)
        await eventually(lambda: job.status == (7, 8))
        job.cancel()
    assert [event for event in recorder.events if event[0] == "on_status"] == [("on_status", 7, 8)]
    skipped = [record for record in caplog.records if "skipped a WORK_STATUS that holds no numbers" in record.message]
    assert len(skipped) == 4


async def test_callbacks_run_in_the_context_of_the_submitter() -> None:
    variable = contextvars.ContextVar("variable", default="nobody")
    seen: list[tuple[str, str]] = []

    async def on_data(_: bytes) -> None:
        await asyncio.sleep(0)
        seen.append(("on_data", variable.get()))

    async with fake_client() as (client, server):

        async def submit(name: str) -> None:
            variable.set(name)
            client.submit("f", on_data=on_data, on_complete=lambda _: seen.append(("on_complete", variable.get())))

        await asyncio.gather(submit("one"), submit("two"))
        peer = await server.accept()
        for handle in (b"H:1", b"H:2"):
            await peer.expect_job(handle)
            peer.send(P.WORK_DATA, handle, b"")
            peer.send(P.WORK_COMPLETE, handle, b"")
        await eventually(lambda: len(seen) == 4)
    assert sorted(seen) == [("on_complete", "one"), ("on_complete", "two"), ("on_data", "one"), ("on_data", "two")]


@pytest.mark.parametrize("coroutines", [False, True])
async def test_an_exception_in_a_callback_is_reported_and_does_not_affect_the_job(coroutines: bool) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    events: list[object] = []

    def fail(data: bytes) -> None:
        raise RuntimeError(data)

    async def fail_later(data: bytes) -> None:
        fail(data)

    callbacks: Any = {"on_data": fail_later if coroutines else fail, "on_complete": events.append}
    async with submitted(**callbacks) as (job, peer, _client):
        peer.send(P.WORK_DATA, b"H:1", b"1")
        peer.send(P.WORK_DATA, b"H:1", b"2")
        peer.send(P.WORK_COMPLETE, b"H:1", b"result")
        assert await job == b"result"
        await eventually(lambda: events)
    assert events == [b"result"]
    assert [context["exception"].args for context in reported] == [(b"1",), (b"2",)]


async def test_a_callback_may_submit_to_the_same_client() -> None:
    async with fake_client() as (client, server):
        second: list[asyncio.Future[bytes]] = []
        client.submit("f", b"1", on_complete=lambda data: second.append(client.submit("f", data)))
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"2")
        assert (await peer.expect_job(b"H:2"))[2] == b"2"
        peer.send(P.WORK_COMPLETE, b"H:2", b"3")
        assert await second[0] == b"3"


@pytest.mark.parametrize("name", ["on_created", "on_data", "on_complete"])
async def test_a_callback_may_disconnect_the_client(name: str) -> None:
    disconnected: list[str] = []

    async def disconnect(*_: object) -> None:
        await client.disconnect_all()
        disconnected.append(name)

    async with fake_client() as (client, server):
        client.submit("f", **{name: disconnect})  # type: ignore[arg-type]  # by its name
        other = client.submit("f", retry_count=3)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_DATA, b"H:1", b"")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        with pytest.raises(ClientDisconnectedError):
            await other
        await eventually(lambda: disconnected)
        assert await peer.at_end()
        again = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"again")
        assert await again == b"again"


@pytest.mark.parametrize("how", ["wait_for", "gather", "a task"])
async def test_a_callback_may_await_a_task_that_disconnects_the_client(how: str) -> None:
    """Disconnecting must not wait for the callback that waits for it."""
    outcomes: list[str] = []

    async def disconnect(_: object) -> None:
        try:
            match how:
                case "wait_for":
                    await asyncio.wait_for(client.disconnect_all(), 60)
                case "gather":
                    await asyncio.gather(client.disconnect_all(), asyncio.sleep(0))
                case _:
                    await asyncio.create_task(client.aclose())
            outcomes.append("disconnected")
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    async with submitted(on_data=disconnect) as (job, peer, client):
        begin = asyncio.get_running_loop().time()
        peer.send(P.WORK_DATA, b"H:1", b"")
        await asyncio.wait([job])
        await eventually(lambda: outcomes)
        assert outcomes == ["disconnected"]
        assert asyncio.get_running_loop().time() - begin < 4


async def test_several_callbacks_may_disconnect_the_client_at_once() -> None:
    """They must not wait for each other."""
    disconnected: list[bytes] = []

    async def disconnect(data: bytes) -> None:
        await client.disconnect_all()
        disconnected.append(data)

    async with fake_client() as (client, server):
        jobs = [client.submit("f", on_data=disconnect) for _ in range(3)]
        peer = await server.accept()
        for number in range(3):
            await peer.expect_job(b"H:%d" % number)
        for number in range(3):
            peer.send(P.WORK_DATA, b"H:%d" % number, b"%d" % number)
        begin = asyncio.get_running_loop().time()
        await asyncio.wait(jobs)
        await eventually(lambda: len(disconnected) == 3, within=4)
        assert asyncio.get_running_loop().time() - begin < 4
        for job in jobs:
            assert isinstance(job.exception(), ClientDisconnectedError)


async def test_disconnecting_waits_for_all_callbacks() -> None:
    recorder = Recorder()
    async with submitted(retry_count=1, **recorder.options(coroutines=True)) as (job, peer, client):
        peer.close()
        await eventually(lambda: job.tries == 2)  # the job waits for its retry and no connection is open
        await client.disconnect_all()
        assert recorder.events[-1] == ("on_fail", job.exception())
        assert recorder.names[-4:] == ["on_retry", "on_retry", "on_fail", "on_fail"]


async def test_a_callback_that_does_not_end_is_cancelled_after_the_grace_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geartrain.client.runtime.CALLBACK_GRACE", 0.02)
    outcomes: list[str] = []

    async def sleep_forever(_: object) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            outcomes.append("cancelled")

    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.add_task(Task("f", on_fail=sleep_forever))
        await (await server.accept()).expect_job(b"H:1")
        await job.created()
        await client.disconnect_all()
        assert outcomes == ["cancelled"]
