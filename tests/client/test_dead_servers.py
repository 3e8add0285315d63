"""When a job server counts as dead, which one is tried instead, and the state after a lost connection."""

from __future__ import annotations

import asyncio

import pytest

from geartrain import Client, ConnectionLostError, NoServersError
from geartrain.address import Address
from geartrain.client.routing import hash_index
from geartrain.client.worker_counts import FRESH_FOR
from geartrain.protocol.packets import PacketType
from tests.support.eventually import eventually
from tests.support.fake_client import fake_client
from tests.support.fake_server import FakeServer, fake_server
from tests.support.gearmand import free_port
from tests.support.inside import (
    channels_of,
    dispatcher_of,
    queued_queries,
    session_of_client,
    set_worker_counts,
    transport_of,
)

P = PacketType


async def lose_a_job_at(client: Client, server: FakeServer) -> None:
    job = client.submit("f")
    (await server.accept()).close()
    with pytest.raises(ConnectionLostError):
        await job


async def complete_a_job_at(client: Client, server: FakeServer) -> None:
    job = client.submit("f")
    peer = await server.accept()
    await peer.expect_job(b"H:1")
    peer.send(P.WORK_COMPLETE, b"H:1", b"")
    await job


async def test_a_reconnected_job_server_is_no_longer_dead() -> None:
    async with fake_client(dead_time=1000) as (client, server):
        await lose_a_job_at(client, server)
        assert client.statistics().servers[server.address].state == "dead"
        job = client.submit("f")
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        peer.send(P.WORK_COMPLETE, b"H:1", b"")
        await job
        peer.close()
        await eventually(lambda: client.statistics().servers[server.address].state != "connected")
        assert client.statistics().servers[server.address].state == "idle"


async def test_a_job_server_is_no_longer_dead_after_the_dead_time() -> None:
    async with (
        fake_server() as first,
        fake_server() as second,
        Client([first.address, second.address], exceptions=False, balance="first", dead_time=0.01) as client,
    ):
        await lose_a_job_at(client, first)
        pool = dispatcher_of(client).pool
        assert pool.any_dead
        await eventually(lambda: client.statistics().servers[first.address].state == "idle")
        await complete_a_job_at(client, first)
        assert not pool.any_dead


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_when_all_are_dead_the_one_that_failed_first_is_tried_first(is_reversed: bool) -> None:
    async with (
        fake_server() as first,
        fake_server() as second,
        Client([first.address, second.address], exceptions=False, balance="first", dead_time=1000) as client,
    ):
        await lose_a_job_at(client, first)
        clock = asyncio.get_running_loop().time
        lost_at = clock()
        await eventually(lambda: clock() > lost_at)
        await lose_a_job_at(client, second)
        if is_reversed:
            client.set_job_servers([second.address, first.address])
        await complete_a_job_at(client, first)
        assert second.connections == 1


async def test_keys_of_a_dead_last_job_server_move_to_the_first() -> None:
    keys = [key for key in (b"%d" % number for number in range(60)) if hash_index(key, 3) == 2][:8]
    async with (
        fake_server() as zero,
        fake_server() as one,
        Client([zero.address, one.address, f"127.0.0.1:{free_port()}"], exceptions=False) as client,
    ):
        jobs = [client.submit("f", unique=key) for key in keys]
        peer = await zero.accept()
        for number in range(len(keys)):
            await peer.expect_job(b"H:%d" % number)
            peer.send(P.WORK_COMPLETE, b"H:%d" % number, b"")
        await asyncio.gather(*jobs)
        query = asyncio.ensure_future(client.get_status_unique(keys[0]))
        await peer.expect(P.GET_STATUS_UNIQUE)
        query.cancel()
        assert one.connections == 0


async def test_a_query_that_failed_is_not_sent_later() -> None:
    async with Client([f"127.0.0.1:{free_port()}"]) as client:
        with pytest.raises(NoServersError):
            await client.get_status_unique("u")
        [channel] = channels_of(client)
        assert channel.is_idle
        assert queued_queries(channel) == 0


async def test_reading_resumes_when_the_last_consumer_resumes_it() -> None:
    async with fake_client() as (client, server):
        await complete_a_job_at(client, server)
        session = session_of_client(client)
        transport = transport_of(session.connection)
        assert transport is not None
        session.pause_reading()
        session.pause_reading()
        session.resume_reading()
        assert not transport.is_reading()
        session.resume_reading()
        assert transport.is_reading()


async def test_a_heartbeat_flushes_buffered_packets() -> None:
    async with fake_client() as (client, server):
        await complete_a_job_at(client, server)
        session = session_of_client(client)
        sent = session.connection.bytes_sent
        job = client.submit("f")
        assert session.connection.bytes_sent == sent
        session.on_heartbeat(now=asyncio.get_running_loop().time(), interval=30.0)
        assert session.connection.bytes_sent > sent
        job.cancel()


async def test_a_worker_count_expires_after_a_second() -> None:
    address = Address.parse("127.0.0.1:1")
    async with Client([str(address)]) as client:
        client.bind()
        counts, now = dispatcher_of(client).worker_counts, asyncio.get_running_loop().time()
        set_worker_counts(counts, address, now, {"f": 3})
        assert counts.cached(address, "f") == 3
        set_worker_counts(counts, address, now - FRESH_FOR, {"f": 3})
        assert counts.cached(address, "f") is None
