"""Several job servers: choosing one, dead ones, changing the list while jobs are outstanding, and draining."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from geartrain import Client, ConnectionLostError, NoServersError, Task
from geartrain.client.channel import ServerChannel
from geartrain.client.pool import ServerPool
from geartrain.client.routing import hash_index
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client, submitted
from tests.support.fake_server import FakePeer, FakeServer, fake_server
from tests.support.gearmand import free_port
from tests.support.inside import channels_of, dispatcher_of, mark_dead

P = PacketType


async def complete(peer: FakePeer, handle: bytes, data: bytes = b"") -> list[bytes]:
    arguments = await peer.expect_job(handle)
    peer.send(P.WORK_COMPLETE, handle, data)
    return arguments


def unused_address() -> str:
    """Return an address without a listener."""
    return f"127.0.0.1:{free_port()}"


# Choosing a server.


async def test_equal_keys_go_to_the_server_that_they_hash_to() -> None:
    async with fake_server() as zero, fake_server() as one:
        servers = [zero, one]
        async with Client([s.address for s in servers], exceptions=False) as client:
            for key in (b"a", b"b", b"c", b"d"):
                server = servers[hash_index(key, 2)]
                jobs = [client.submit("f", unique=key), client.submit("f", key, unique="-")]
                peer = await server.accept()
                await complete(peer, b"H:1")
                await complete(peer, b"H:2")
                await asyncio.wait(jobs)
                await client.disconnect_all()


async def test_only_the_keys_of_a_dead_server_move_and_they_move_to_the_next() -> None:
    keys = [b"%d" % n for n in range(30)]
    async with (
        fake_server() as zero,
        fake_server() as two,
        Client([zero.address, unused_address(), two.address], exceptions=False) as client,
    ):
        jobs = [client.submit("f", key, unique=key) for key in keys]
        homes = {index: [k for k in keys if hash_index(k, 3) == index] for index in range(3)}
        for server, due in ((zero, homes[0]), (two, homes[2] + homes[1])):
            peer = await server.accept()
            received = {(await complete(peer, b"H:%d" % n))[2] for n in range(len(due))}
            assert received == set(due)
        assert all(homes.values())
        await asyncio.gather(*jobs)


async def test_a_balance_function_chooses_among_the_live_servers() -> None:
    seen: list[Sequence[str]] = []

    def last(task: Task, servers: Sequence[str]) -> str:
        seen.append(servers)
        return servers[-1]

    async with fake_server() as server:
        dead = unused_address()  # not earlier, or the server may get the same port
        async with Client([server.address, dead], exceptions=False, balance=last) as client:
            job = client.submit("f")
            await complete(await server.accept(), b"H:1", b"x")
            assert await job == b"x"
            assert seen == [(server.address, dead), (server.address,)]


async def test_an_exception_of_the_balance_function_ends_the_job() -> None:
    async with Client([unused_address(), unused_address()], balance=lambda task, servers: "elsewhere") as client:
        for call in (client.do("f"), client.submit("f")):
            with pytest.raises(ValueError, match="balance returned 'elsewhere'"):
                await call


async def test_a_balance_function_is_called_once_per_call_with_its_workload() -> None:
    seen: list[tuple[str, bytes]] = []
    peers: dict[FakeServer, FakePeer] = {}

    def choose(task: Task, servers: Sequence[str]) -> str:
        seen.append((task.function, task.workload))
        return servers[len(seen) % 2]

    async with (
        fake_server() as one,
        fake_server() as two,
        Client([one.address, two.address], exceptions=False, balance=choose) as client,
    ):
        for server, connected in ((two, False), (one, False), (two, True), (one, True)):
            workload = server.address.encode()
            doing = asyncio.ensure_future(client.do("f", workload))
            if not connected:
                peers[server] = await server.accept()
            peer = peers[server]
            assert await complete(peer, b"H:1", b"done") == [b"f", b"", workload]
            assert await doing == b"done"
    assert seen == [("f", server.address.encode()) for server in (two, one, two, one)]


async def test_a_balance_function_that_raises_stop_iteration_ends_the_job() -> None:
    def by_rack(task: Task, servers: Sequence[str]) -> str:
        return next(server for server in servers if server == "rack-7")

    async with Client([unused_address(), unused_address()], balance=by_rack) as client:
        for call in (client.do("f"), client.submit("f")):
            with pytest.raises(RuntimeError, match=r"balance raised StopIteration"):
                await call


async def test_jobs_submitted_together_are_spread_over_the_servers() -> None:
    async with (
        fake_server() as one,
        fake_server() as two,
        Client([one.address, two.address], exceptions=False, balance="least-outstanding") as client,
    ):
        jobs = [client.submit("f") for _ in range(6)]
        for server in (one, two):
            peer = await server.accept()
            for number in range(3):
                await complete(peer, b"H:%d" % number)
        await asyncio.gather(*jobs)


# Dead servers.


async def test_without_servers_a_job_fails_with_that_reason() -> None:
    async with Client([]) as client:
        with pytest.raises(NoServersError, match="no job server could be reached for f: none is configured") as caught:
            await client.do("f")
        assert caught.value.errors == {}
        with pytest.raises(NoServersError, match="no job server is configured"):
            await client.get_status_unique("u")
        assert await client.ping() == {}


async def test_an_unreachable_server_uses_up_no_retry() -> None:
    async with fake_server() as server:
        servers = [unused_address(), unused_address(), server.address]
        async with Client(servers, exceptions=False, balance="first") as client:
            job = client.submit("f")
            await complete(await server.accept(), b"H:1", b"x")
            assert await job == b"x"
            assert job.tries == 1
            assert client.statistics().submitted == 1


async def test_when_all_servers_are_dead_the_error_names_each_of_them() -> None:
    servers = [unused_address(), unused_address()]
    async with Client(servers) as client:
        with pytest.raises(NoServersError) as caught:
            await client.do("f")
        assert sorted(caught.value.errors) == sorted(servers)
        assert all(isinstance(error, ConnectionRefusedError) for error in caught.value.errors.values())
        assert all(server in str(caught.value) for server in servers)


async def test_a_dead_server_is_avoided_while_another_one_is_alive() -> None:
    async with (
        fake_server() as first,
        fake_server() as second,
        Client([first.address, second.address], exceptions=False, balance="first") as client,
    ):
        job = client.submit("f")
        peer = await first.accept()
        await peer.expect_job()
        peer.close()
        with pytest.raises(ConnectionLostError):
            await job
        other = client.submit("f")
        await complete(await second.accept(), b"H:1")
        await other
        assert first.connections == 1


async def test_a_server_that_came_back_is_used_again_after_the_dead_time() -> None:
    async with fake_server() as first, fake_server() as second:
        servers = [first.address, second.address]
        async with Client(servers, exceptions=False, balance="first", dead_time=0.01) as client:
            job = client.submit("f")
            (await first.accept()).close()
            with pytest.raises(ConnectionLostError):
                await job
            await eventually(lambda: client.statistics().servers[first.address].state == "idle")
            again = client.submit("f")
            await complete(await first.accept(), b"H:1")
            await again


async def test_when_all_servers_are_dead_they_are_tried_anyway() -> None:
    async with fake_client(dead_time=1000) as (client, server):
        job = client.submit("f")
        (await server.accept()).close()
        with pytest.raises(ConnectionLostError):
            await job
        assert client.statistics().servers[server.address].state == "dead"
        again = client.submit("f")
        await complete(await server.accept(), b"H:1")
        await again
        assert client.statistics().servers[server.address].state == "connected"


async def test_a_server_that_closes_an_idle_connection_is_not_dead() -> None:
    async with fake_client() as (client, server):
        job = client.submit("f")
        peer = await server.accept()
        await complete(peer, b"H:1")
        await job
        peer.close()
        await eventually(lambda: client.statistics().servers[server.address].state != "connected")
        assert client.statistics().servers[server.address].state == "idle"


# Changing the list of servers.


async def test_a_server_in_both_lists_keeps_its_connection() -> None:
    async with submitted() as (job, peer, client):
        (address,) = client.job_servers
        client.set_job_servers([unused_address(), address])
        peer.send(P.WORK_COMPLETE, b"H:1", b"over the same one")
        assert await job == b"over the same one"
        client.set_job_servers([address])
        again = client.submit("f")
        await complete(peer, b"H:2")
        await again


async def test_a_dropped_server_is_closed_after_its_last_job() -> None:
    async with submitted() as (job, peer, client), fake_server() as other:
        second = client.submit("f")
        await peer.expect_job(b"H:2")
        client.set_job_servers([other.address])
        assert client.job_servers == (other.address,)
        moved = client.submit("f")
        await complete(await other.accept(), b"H:1")
        await moved
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"
        peer.send(P.WORK_COMPLETE, b"H:2", b"y")
        assert await second == b"y"
        assert await peer.at_end()
        await eventually(lambda: list(client.statistics().servers) == [other.address])


async def test_a_dropped_server_without_jobs_is_closed_immediately() -> None:
    async with submitted() as (job, peer, client):
        job.cancel()
        client.set_job_servers([])
        assert await peer.at_end()
        assert client.statistics().servers == {}


async def test_a_dropped_server_that_is_added_again_keeps_its_connection() -> None:
    async with submitted() as (job, peer, client):
        (address,) = client.job_servers
        client.set_job_servers([])
        client.set_job_servers([address])
        other = client.submit("f")
        await complete(peer, b"H:2")
        await other
        assert not job.done()
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"


async def test_unsent_jobs_of_a_dropped_server_go_to_another_one() -> None:
    async with fake_client(max_outstanding=1) as (client, server), fake_server() as other:
        sent, waiting = client.submit("f", b"sent"), client.submit("f", b"waiting")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        client.set_job_servers([other.address])
        assert (await complete(await other.accept(), b"H:1"))[2] == b"waiting"
        await waiting
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await sent


async def test_without_another_server_unsent_jobs_fail() -> None:
    async with fake_client() as (client, _server):
        job = client.submit("f")
        client.set_job_servers([])
        with pytest.raises(NoServersError):
            await job


async def test_a_retry_does_not_go_to_a_dropped_server() -> None:
    async with submitted(retry_count=1) as (job, peer, client), fake_server() as other:
        client.set_job_servers([other.address])
        peer.send(P.WORK_FAIL, b"H:1")
        await complete(await other.accept(), b"H:1", b"elsewhere")
        assert await job == b"elsewhere"
        assert await peer.at_end()


async def test_an_invalid_list_changes_nothing() -> None:
    async with Client(["a"]) as client:
        for wrong in (["a b"], [7], None):
            with pytest.raises((ValueError, TypeError)):
                client.set_job_servers(wrong)  # type: ignore[arg-type]  # what is tested
        assert client.job_servers == ("a:4730",)


async def test_the_list_may_be_set_before_the_first_use() -> None:
    async with fake_server() as server:
        client = Client(["a"], exceptions=False)
        client.set_job_servers(server.address)
        async with client:
            job = client.submit("f")
            await complete(await server.accept(), b"H:1")
            await job


# Limits, draining and disconnecting.


async def test_jobs_over_max_outstanding_wait_in_the_client_in_order() -> None:
    async with fake_client(max_outstanding=2) as (client, server):
        jobs = [client.submit("f", b"%d" % n) for n in range(5)]
        peer = await server.accept()
        for number in range(2):
            assert (await peer.expect_job(b"H:%d" % number))[2] == b"%d" % number
        assert client.statistics().servers[server.address].waiting == 3
        jobs[2].cancel()
        for done, follows in ((0, 3), (1, 4)):
            peer.send(P.WORK_COMPLETE, b"H:%d" % done, b"")
            assert (await peer.expect_job(b"H:%d" % follows))[2] == b"%d" % follows
            assert client.statistics().outstanding == 2
        jobs[3].cancel()
        jobs[4].cancel()


async def test_a_failed_job_makes_room_and_its_retry_is_queued_last() -> None:
    async with fake_client(max_outstanding=1) as (client, server):
        first, second = client.submit("f", b"first", retry_count=1), client.submit("f", b"second")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_FAIL, b"H:1")
        assert (await complete(peer, b"H:2"))[2] == b"second"
        assert (await complete(peer, b"H:3"))[2] == b"first"
        await asyncio.gather(first, second)


async def test_drain_waits_until_no_job_is_outstanding() -> None:
    async with fake_client(max_outstanding=1) as (client, server):
        await client.drain()
        jobs = [client.submit("f", retry_count=1) for _ in range(2)]
        draining = asyncio.create_task(client.drain())
        peer = await server.accept()
        await complete(peer, b"H:1")
        await peer.expect_job(b"H:2")
        later = client.submit("f")
        peer.send(P.WORK_FAIL, b"H:2")
        await complete(peer, b"H:3")
        await peer.expect_job(b"H:4")
        await asyncio.sleep(0)
        assert not draining.done()
        peer.send(P.WORK_COMPLETE, b"H:4", b"")
        await draining
        assert all(job.done() for job in (*jobs, later))


async def test_drain_waits_for_jobs_that_wait_for_a_retry() -> None:
    async with submitted(retry_count=1) as (job, peer, client):
        peer.close()
        await eventually(lambda: job.tries == 2)
        draining = asyncio.create_task(client.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        job.cancel()
        await draining


async def test_drain_waits_for_jobs_of_servers_that_are_added_meanwhile() -> None:
    async with submitted() as (job, peer, client), fake_server() as other:
        draining = asyncio.create_task(client.drain())
        await asyncio.sleep(0)
        client.set_job_servers([other.address])
        later = client.submit("f")
        other_peer = await other.accept()
        await other_peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        assert not draining.done()
        other_peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await later
        await asyncio.wait_for(draining, 5)


async def test_drain_waits_for_jobs_that_move_to_another_server_when_one_fails() -> None:
    def choose(task: Task, servers: Sequence[str]) -> str:
        return dead if dead in servers or task.workload == b"nowhere else" else servers[0]

    async with fake_server() as server:
        dead = unused_address()
        async with Client([dead, server.address], exceptions=False, balance=choose) as client:
            failing, job = client.submit("f", b"nowhere else"), client.submit("f")
            draining = asyncio.create_task(client.drain())
            peer = await server.accept()
            await peer.expect_job(b"H:1")
            assert isinstance(failing.exception(), ValueError)
            assert not draining.done()
            peer.send(P.WORK_COMPLETE, b"H:1", b"")
            await asyncio.wait_for(draining, 5)
            assert job.done()


async def test_drain_times_out_and_leaves_the_jobs_running() -> None:
    async with submitted() as (job, peer, client):
        with pytest.raises(TimeoutError):
            await client.drain(0.01)
        assert not job.done()
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
            await client.drain(0)
        peer.send(P.WORK_COMPLETE, b"H:1", b"x")
        assert await job == b"x"


async def test_disconnecting_ends_drain() -> None:
    async with submitted() as (job, _peer, client):
        draining = asyncio.create_task(client.drain())
        await asyncio.sleep(0)
        await client.disconnect_all()
        await draining
        assert job.exception() is not None


@pytest.mark.parametrize("when", ["connecting", "connected", "idle", "leaving", "never used"])
async def test_disconnecting_leaves_nothing_and_the_client_can_be_used_again(when: str) -> None:
    async with fake_client() as (client, server):
        jobs: list[asyncio.Future[Any]] = []
        if when != "never used":
            jobs.append(client.submit("f"))
        if when in ("connected", "idle", "leaving"):
            peer = await server.accept()
            await peer.expect_job(b"H:1")
            if when == "idle":
                peer.send(P.WORK_COMPLETE, b"H:1", b"")
                await jobs[0]
        if when == "leaving":
            client.set_job_servers([])
        await client.disconnect_all()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("geartrain")]
        for job in jobs:
            assert job.done()
            job.exception()
        client.set_job_servers([server.address])
        again = client.submit("f")
        while not again.done():
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # a connection that was cut
                await complete(await server.accept(), b"H:1", b"again")
                await again
        assert await again == b"again"


# Choosing among dead servers.


@asynccontextmanager
async def three_servers() -> AsyncIterator[tuple[ServerPool, tuple[ServerChannel, ...]]]:
    """The pool of a client that is not connected, and whose balance function returns the last server."""
    async with Client(["10.0.0.1", "10.0.0.2", "10.0.0.3"], balance=lambda _, names: names[-1]) as client:
        pool = dispatcher_of(client).pool
        yield pool, pool.configured


@pytest.mark.parametrize(("dead", "chosen"), [((), 2), ((2,), 0), ((2, 0), 1)])
async def test_a_key_goes_to_its_server_or_the_next_live_one(dead: tuple[int, ...], chosen: int) -> None:
    key = next(key for key in map(str, itertools.count()) if hash_index(key.encode(), 3) == 2)
    async with three_servers() as (pool, channels):
        for index in dead:
            mark_dead(channels[index])
        assert pool.choose(Task("f", unique=key)) is channels[chosen]
        assert pool.channel_for_key(key.encode()) is channels[chosen]


async def test_of_dead_servers_the_one_whose_dead_time_ends_first_is_chosen() -> None:
    async with three_servers() as (pool, channels):
        for channel, seconds in zip(channels, (9, 5, 7), strict=True):
            mark_dead(channel)
            channel.dead_until = asyncio.get_running_loop().time() + seconds
        assert pool.choose(Task("f")) is channels[1]
        assert pool.choose(Task("f"), {channels[1].name}) is channels[2]


@pytest.mark.parametrize("home", range(3))
async def test_a_status_query_goes_where_the_job_goes_when_all_servers_are_dead(home: int) -> None:
    key = next(key for key in map(str, itertools.count()) if hash_index(key.encode(), 3) == home)
    async with three_servers() as (pool, channels):
        for channel, seconds in zip(channels, (9, 5, 7), strict=True):
            mark_dead(channel)
            channel.dead_until = asyncio.get_running_loop().time() + seconds
        assert pool.choose(Task("f", unique=key)) is channels[1]
        assert pool.channel_for_key(key.encode()) is channels[1]


async def test_any_dead_is_false_once_the_dead_time_is_over() -> None:
    async with three_servers() as (pool, channels):
        mark_dead(channels[2])
        assert pool.choose(Task("f")) is channels[1]
        assert pool.any_dead
        channels[2].dead_until = asyncio.get_running_loop().time()
        assert pool.choose(Task("f")) is channels[2]
        assert not pool.any_dead


async def test_a_connected_server_is_no_longer_dead() -> None:
    async with fake_client() as (client, server):
        [channel] = channels_of(client)
        mark_dead(channel)
        assert channel.state == "dead"
        job = client.submit("f")
        await (await server.accept()).expect_job(b"H:1")
        await job.created()
        assert channel.dead_until == 0.0
        job.cancel()
