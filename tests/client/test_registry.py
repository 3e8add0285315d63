"""Clients by name, and events posted to them from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import geartrain
from geartrain import (
    AliasInUseError,
    Client,
    ClientDisconnectedError,
    LocalProtocolError,
    Task,
    UnknownAliasError,
    get_client,
    post,
    spawn,
)
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_server import FakePeer, FakeServer, fake_server

P = PacketType


async def complete_one(server: FakeServer, data: bytes) -> FakePeer:
    peer = await server.accept()
    await peer.expect_job(b"H:1")
    peer.send(P.WORK_COMPLETE, b"H:1", data)
    return peer


async def test_spawn_creates_a_client_that_is_found_by_its_name() -> None:
    client = spawn(alias="images", job_servers=["10.0.0.1"], heartbeat=7)
    assert get_client("images") is client
    assert client.job_servers == ("10.0.0.1:4730",)
    assert client.loop is asyncio.get_running_loop()
    await client.aclose()


async def test_the_default_name_is_gearman_and_the_default_server_is_local() -> None:
    client = spawn()
    assert get_client() is get_client("Gearman") is client
    assert client.job_servers == ("127.0.0.1:4730",)
    await client.aclose()


async def test_several_clients_coexist_under_their_names() -> None:
    async with spawn(alias="one") as one, spawn(alias="two") as two, Client() as unnamed:
        assert (get_client("one"), get_client("two")) == (one, two)
        assert unnamed not in (one, two)


async def test_a_name_is_in_use_until_its_client_is_closed() -> None:
    client = spawn()
    with pytest.raises(AliasInUseError, match="there is an open client with the alias 'Gearman' already"):
        spawn()
    with pytest.raises(AliasInUseError):
        Client(alias="Gearman")
    await client.disconnect_all()
    assert get_client() is client, "disconnecting must not close the client"
    await client.aclose()
    with pytest.raises(UnknownAliasError, match="there is no open client with the alias 'Gearman'"):
        get_client()
    await spawn().aclose()


async def test_closing_an_old_client_does_not_free_the_name_of_a_new_one() -> None:
    old = spawn()
    await old.aclose()
    async with spawn() as new:
        await old.aclose()
        assert get_client() is new


def test_the_name_of_a_client_whose_loop_is_closed_is_free() -> None:
    async def forget() -> None:
        spawn(alias="left behind")

    asyncio.run(forget())
    with pytest.raises(UnknownAliasError):
        get_client("left behind")
    asyncio.run(forget())
    with pytest.raises(UnknownAliasError):
        post("left behind", "disconnect_all")


def test_names_are_free_in_a_forked_process() -> None:
    async def main() -> int:
        async with spawn(alias="inherited"):
            child = os.fork()
            if child == 0:
                try:
                    Client(alias="inherited")
                except AliasInUseError:
                    os._exit(1)
                os._exit(0)
            assert get_client("inherited")
            return child

    _, status = os.waitpid(asyncio.run(main()), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_spawn_without_a_running_loop_fails_and_leaves_the_name_free() -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="inside a running event loop"):
            spawn()
    with pytest.raises(UnknownAliasError):
        get_client()


async def test_a_client_that_cannot_be_created_takes_no_name() -> None:
    with pytest.raises(TypeError):
        spawn(no_such_option=1)  # type: ignore[call-arg]  # what is tested
    await spawn().aclose()


# Events.


@pytest.mark.parametrize(
    ("event", "arguments", "error", "message"),
    [
        ("add", (), ValueError, "an event is one of set_job_servers, add_task, disconnect_all, got 'add'"),
        ("add_task", (), TypeError, "add_task takes one argument"),
        ("add_task", ("f",), TypeError, "add_task takes a Task, got 'f'"),
        ("set_job_servers", (), TypeError, "set_job_servers takes one argument"),
        ("set_job_servers", (["a b"],), ValueError, "a job server's address"),
        ("set_job_servers", ([7],), TypeError, "a job server's address must be a string"),
        ("disconnect_all", ("now",), TypeError, "disconnect_all takes no arguments, got ('now',)"),
    ],
)
async def test_posting_an_invalid_event_raises(
    event: str, arguments: Any, error: type[Exception], message: str
) -> None:
    async with spawn():
        with pytest.raises(error) as caught:
            post("Gearman", event, *arguments)
        assert message in str(caught.value)


async def test_posting_to_an_unknown_name_raises() -> None:
    with pytest.raises(UnknownAliasError) as caught:
        post("unknown", "disconnect_all")
    assert isinstance(caught.value, LookupError)


async def test_events_change_the_servers_submit_and_disconnect() -> None:
    outcomes: list[object] = []
    async with fake_server() as server, spawn(exceptions=False) as client:
        post("Gearman", "set_job_servers", [server.address])
        post("Gearman", "add_task", Task("f", b"w", on_complete=outcomes.append))
        assert client.job_servers == ("127.0.0.1:4730",), "events are handled in a later turn of the loop"
        peer = await complete_one(server, b"result")
        await eventually(lambda: outcomes)
        post("Gearman", "add_task", Task("f", on_fail=outcomes.append))
        await peer.expect_job(b"H:2")
        post("Gearman", "disconnect_all")
        await eventually(lambda: len(outcomes) == 2)
        assert await peer.at_end()
    assert list(client.job_servers) == [server.address]
    assert outcomes[0] == b"result"
    assert isinstance(outcomes[1], ClientDisconnectedError)


async def test_the_posted_servers_may_be_any_iterable() -> None:
    async with spawn() as client:
        post("Gearman", "set_job_servers", (name for name in ("a", "b:1")))
        await asyncio.sleep(0)
        assert list(client.job_servers) == ["a:4730", "b:1"]
        post("Gearman", "set_job_servers", "c")
        await asyncio.sleep(0)
        assert list(client.job_servers) == ["c:4730"]


async def test_a_later_change_of_a_posted_list_has_no_effect() -> None:
    servers = ["a"]
    async with spawn() as client:
        post("Gearman", "set_job_servers", servers)
        servers.append("no address")
        await asyncio.sleep(0)
        assert client.job_servers == ("a:4730",)


async def test_events_of_one_thread_are_handled_in_order() -> None:
    """One is a disconnect: it ends all jobs posted before it and none posted after it."""
    outcomes: list[tuple[object, ...]] = []

    def record(name: str) -> Callable[[object], None]:
        return lambda outcome: outcomes.append((name, outcome))

    def work() -> None:
        for number in range(100):
            post("Gearman", "add_task", Task("f", on_fail=record(f"early {number}")))
        post("Gearman", "disconnect_all")
        post("Gearman", "add_task", Task("f", on_complete=record("late")))

    async def serve(server: FakeServer) -> None:
        while ("late", b"result") not in outcomes:
            with contextlib.suppress(asyncio.IncompleteReadError):  # a connection that was made before the disconnect
                await complete_one(server, b"result")

    async with fake_server() as server, spawn(job_servers=[server.address], exceptions=False):
        thread = threading.Thread(target=work)
        thread.start()
        await eventually(lambda: len(outcomes) == 100)
        serving = asyncio.create_task(serve(server))
        await eventually(lambda: ("late", b"result") in outcomes)
        thread.join()
        serving.cancel()
        await asyncio.wait([serving])
    assert [name for name, _ in outcomes] == [*(f"early {number}" for number in range(100)), "late"]


async def test_many_threads_may_post_at_once() -> None:
    context = contextvars.ContextVar("context", default="")
    outcomes: list[str] = []

    def work(name: str) -> None:
        context.set(name)
        for number in range(25):
            task = Task("f", f"{name} {number}", on_complete=lambda _: outcomes.append(context.get()))
            get_client("shared")
            post("shared", "add_task", task)

    async with fake_server() as server, spawn(alias="shared", job_servers=[server.address], exceptions=False):
        threads = [threading.Thread(target=work, args=[f"thread {n}"]) for n in range(4)]
        for thread in threads:
            thread.start()
        peer = await server.accept()
        orders: dict[str, list[int]] = {}
        for number in range(100):
            handle = b"H:%d" % number
            name, _, count = (await peer.expect_job(handle))[2].decode().rpartition(" ")
            orders.setdefault(name, []).append(int(count))
            peer.send(P.WORK_COMPLETE, handle, b"")
        await eventually(lambda: len(outcomes) == 100)
        for thread in threads:
            thread.join()
    assert orders == {f"thread {n}": list(range(25)) for n in range(4)}
    assert set(outcomes) == set(orders), "callbacks run in the context of the thread that posted"


async def test_a_signal_handler_may_post() -> None:
    outcomes: list[bytes] = []
    before = signal.signal(
        signal.SIGUSR2, lambda *_: post("Gearman", "add_task", Task("f", on_complete=outcomes.append))
    )
    try:
        async with fake_server() as server, spawn(job_servers=[server.address], exceptions=False):
            os.kill(os.getpid(), signal.SIGUSR2)
            await complete_one(server, b"signalled")
            await eventually(lambda: outcomes == [b"signalled"])
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_handler_may_interrupt_a_lookup() -> None:
    """The lock is held by the thread that the handler runs in."""
    with geartrain.client.registry._lock, pytest.raises(UnknownAliasError):
        post("unknown", "disconnect_all")


async def test_a_callback_may_post() -> None:
    outcomes: list[bytes] = []

    def again(_: bytes) -> None:
        post("Gearman", "add_task", Task("f", on_complete=outcomes.append))

    async with fake_server() as server, spawn(job_servers=[server.address], exceptions=False) as client:
        client.submit("f", on_complete=again)
        peer = await complete_one(server, b"first")
        await peer.expect_job(b"H:2")
        peer.send(P.WORK_COMPLETE, b"H:2", b"second")
        await eventually(lambda: outcomes == [b"second"])


async def test_a_client_created_outside_a_loop_is_bound_to_the_loop_that_posts() -> None:
    client = Client(alias="early")
    assert client.loop is None
    post("early", "set_job_servers", ["a"])
    assert client.loop is asyncio.get_running_loop()
    await asyncio.sleep(0)
    assert client.job_servers == ("a:4730",)
    await client.aclose()


def test_posting_outside_a_loop_to_a_client_without_a_loop_raises() -> None:
    client = Client(alias="unused")
    with pytest.raises(LocalProtocolError, match="inside a running event loop"):
        post("unused", "disconnect_all")
    asyncio.run(client.aclose())


async def test_an_event_that_is_handled_after_the_client_was_closed_opens_no_connection() -> None:
    outcomes: list[object] = []
    async with fake_server() as server:
        client = spawn(job_servers=[server.address])
        post("Gearman", "add_task", Task("f", on_fail=outcomes.append))
        await client.aclose()
        await eventually(lambda: outcomes)
        assert isinstance(outcomes[0], ClientDisconnectedError)
        assert client.statistics().outstanding == 0


async def test_closing_waits_for_a_posted_disconnect() -> None:
    outcomes: list[str] = []

    async def slowly(_: object) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        outcomes.append("slowly")

    async with fake_server() as server:
        client = spawn(job_servers=[server.address], exceptions=False)
        client.submit("f", on_fail=slowly)
        await (await server.accept()).expect_job(b"H:1")
        post("Gearman", "disconnect_all")
        await asyncio.sleep(0)
        await client.aclose()
        assert outcomes == ["slowly"]
