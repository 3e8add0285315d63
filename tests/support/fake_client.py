"""A client connected to a fake server, optionally with a submitted job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from geartrain import Client, Job
from geartrain.protocol.packets import PacketType
from tests.support.fake_server import FakePeer, FakeServer, fake_server
from tests.support.inside import session_of_client


@asynccontextmanager
async def fake_client(**options: Any) -> AsyncIterator[tuple[Client, FakeServer]]:
    """A client of one fake server."""
    async with fake_server() as server, Client([server.address], exceptions=False, **options) as client:
        yield client, server


@asynccontextmanager
async def submitted(**options: Any) -> AsyncIterator[tuple[Job, FakePeer, Client]]:
    """A job that was accepted with the handle ``H:1``."""
    async with fake_client() as (client, server):
        job = client.submit("f", b"w", **options)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        yield job, peer, client


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Client, FakeServer, FakePeer]]:
    """A client that is already connected, so that the next request is sent immediately."""
    async with fake_client(**options) as (client, server):
        first = client.submit("first")
        peer = await server.accept()
        await peer.expect_job(b"H:first")
        peer.send(PacketType.WORK_COMPLETE, b"H:first", b"")
        await first
        yield client, server, peer


def handles(client: Client) -> set[bytes]:
    """The handles of all jobs whose result is outstanding."""
    return set(protocol(client)._results.jobs)


def protocol(client: Client) -> Any:
    """The protocol object of a client with one job server."""
    return session_of_client(client).protocol
