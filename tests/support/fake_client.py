"""A client of a fake server, and a job that it has submitted there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from geartrain import Client, Job
from tests.support.fake_server import FakePeer, FakeServer, fake_server


@asynccontextmanager
async def fake_client(**options: Any) -> AsyncIterator[tuple[Client, FakeServer]]:
    """A client of one fake server."""
    async with fake_server() as server, Client([server.address], exceptions=False, **options) as client:
        yield client, server


@asynccontextmanager
async def submitted(**options: Any) -> AsyncIterator[tuple[Job, FakePeer, Client]]:
    """A job that has its handle, ``H:1``."""
    async with fake_client() as (client, server):
        job = client.submit("f", b"w", **options)
        peer = await server.accept()
        await peer.expect_job(b"H:1")
        await job.created()
        yield job, peer, client
