"""Everything that waits for a connection is released when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from geartrain.protocol.packets import HEADER, RESPONSE, PacketType
from geartrain.worker import Worker, WorkerJob
from geartrain.worker import run as run_module
from tests.support.eventually import eventually
from tests.support.inside import session_of_worker_job
from tests.support.scripted import ScriptedServer, scripted_server, sleep_forever
from tests.support.wire import packet
from tests.support.working import WITHIN, working

JOB = packet(PacketType.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"", b"", magic=RESPONSE)
LARGE = bytes(16 * 1024 * 1024)  # more than the socket buffers hold


class Server:
    """
    Assigns one job on its first connection, and reads nothing after a packet of the type ``stop_at``.

    Attributes:
        stopped: Set when it has stopped reading.
        hang_up: Set this to make it close the connection.
    """

    def __init__(self, stop_at: PacketType) -> None:
        self._stop_at = stop_at
        self._used = False
        self.stopped = asyncio.Event()
        self.hang_up = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._used:
            await sleep_forever()
        self._used = True
        while not self.stopped.is_set():
            _, number, size = HEADER.unpack(await reader.readexactly(HEADER.size))
            await reader.readexactly(size)
            if number == PacketType.GRAB_JOB_UNIQ:
                writer.write(JOB)
            if number == self._stop_at:
                self.stopped.set()
        await self.hang_up.wait()


@asynccontextmanager
async def serving(stop_at: PacketType) -> AsyncIterator[tuple[ScriptedServer, Server]]:
    server = Server(stop_at)
    async with scripted_server(server) as listening:
        yield listening, server


def held_back(jobs: list[WorkerJob]) -> bool:
    """Return whether the job server has stopped receiving updates of the first job."""
    if not jobs:
        return False
    return not session_of_worker_job(jobs[0]).connection.writable


async def test_drain_returns_when_the_connection_is_lost() -> None:
    async with serving(PacketType.GRAB_JOB_UNIQ) as (listening, server):
        worker, jobs, drained = Worker(listening.address), list[WorkerJob](), asyncio.Event()

        @worker.function("f")
        async def f(job: WorkerJob) -> None:
            jobs.append(job)
            for _ in range(2):  # the second time, the connection is already lost
                job.send_data(LARGE)
                await job.drain()
            drained.set()

        async with working(worker):
            await eventually(lambda: held_back(jobs))
            assert not drained.is_set()
            server.hang_up.set()
            async with asyncio.timeout(WITHIN):
                await drained.wait()


@pytest.mark.parametrize("end", ["connection lost", "run cancelled"])
async def test_a_blocked_thread_continues_when_the_connection_ends(end: str) -> None:
    async with serving(PacketType.GRAB_JOB_UNIQ) as (listening, server):
        worker, jobs, sent = Worker(listening.address), list[WorkerJob](), threading.Event()

        @worker.function("f")
        def f(job: WorkerJob) -> None:
            jobs.append(job)
            job.send_data(LARGE)
            if end == "connection lost":  # a job that was cancelled has ended, and may send nothing more
                job.send_data(LARGE)
            sent.set()

        async with working(worker) as run:
            await eventually(lambda: held_back(jobs))
            assert not sent.is_set()
            if end == "connection lost":
                server.hang_up.set()
            else:
                run.cancel()
            await eventually(sent.is_set)


async def test_stopping_ends_when_the_server_hangs_up_before_it_has_taken_the_last_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(PacketType.ECHO_REQ) as (listening, server):
        worker = Worker(listening.address, max_jobs=1)

        @worker.function("f")
        async def f(job: WorkerJob) -> bytes:
            return b"result"

        async with working(worker) as run:
            await server.stopped.wait()
            assert not run.done()
            server.hang_up.set()
            await run
    assert "did not receive the last results" not in caplog.text


async def test_stopping_does_not_wait_forever_for_a_server_that_does_not_take_the_last_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "_DELIVERY_TIMEOUT", 0.01)
    async with serving(PacketType.ECHO_REQ) as (listening, _):
        worker = Worker(listening.address, max_jobs=1)

        @worker.function("f")
        async def f(job: WorkerJob) -> bytes:
            return b"result"

        async with working(worker) as run:
            async with asyncio.timeout(WITHIN):
                await asyncio.shield(run)
    assert "did not receive the last results" in caplog.text
