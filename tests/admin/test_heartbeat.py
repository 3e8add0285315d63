"""An idle admin connection is probed, and replaced when the job server does not answer."""

from __future__ import annotations

import asyncio

import pytest

from geartrain import Admin, AdminGroup
from tests.support.eventually import eventually
from tests.support.job_server import AnyJobServer
from tests.support.logs import warnings
from tests.support.scripted import for_ever, scripted_server

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

SHORT = 0.05  # seconds


class Server:
    """Answers every line with ``OK`` until it is told to stop."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.answers = True

    async def serve(self, reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            self.lines.append(line.strip())
            if self.answers:
                writer.write(b"OK 1\n")


async def test_a_silent_idle_connection_is_closed_and_the_next_call_opens_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    async with scripted_server(server.serve) as scripted, Admin(scripted.address, heartbeat=SHORT) as admin:
        assert await admin.getpid() == 1
        server.answers = False
        await eventually(lambda: not admin.connected)
        assert server.lines == [b"getpid", b"version"]
        assert not warnings(caplog.records)
        server.answers = True
        assert await admin.getpid() == 1
        assert scripted.connections == 2


async def test_an_idle_connection_whose_probes_are_answered_stays_open() -> None:
    server = Server()
    async with scripted_server(server.serve) as scripted, AdminGroup([scripted.address], heartbeat=SHORT) as group:
        admin = group.admins[scripted.address]
        assert await admin.getpid() == 1
        await eventually(lambda: server.lines.count(b"version") > 3)
        assert await admin.getpid() == 1
        assert scripted.connections == 1


async def test_an_error_answers_a_probe_as_well() -> None:
    lines = 0

    async def refuse(reader: Reader, writer: Writer) -> None:
        nonlocal lines
        await reader.readline()
        writer.write(b"OK 1\n")
        while await reader.readline():
            lines += 1
            writer.write(b"ERR unknown_command Unknown+server+command\n")

    async with scripted_server(refuse) as scripted, Admin(scripted.address, heartbeat=SHORT) as admin:
        assert await admin.getpid() == 1
        await eventually(lambda: lines > 2)
        assert admin.connected


async def test_a_connection_that_owes_an_answer_is_not_probed() -> None:
    slow, idle = Server(), Server()
    slow.answers = False
    async with (
        scripted_server(slow.serve) as server,
        scripted_server(idle.serve) as other,
        Admin(server.address, timeout=None, heartbeat=SHORT) as admin,
        Admin(other.address, heartbeat=SHORT) as witness,
    ):
        call = asyncio.create_task(admin.getpid())
        assert await witness.getpid() == 1
        await eventually(lambda: idle.lines.count(b"version") > 3)
        assert slow.lines == [b"getpid"]
        call.cancel()


async def test_without_a_heartbeat_nothing_is_probed() -> None:
    server = Server()
    async with scripted_server(server.serve) as scripted, Admin(scripted.address, heartbeat=None) as admin:
        assert await admin.getpid() == 1
        assert admin._link is not None
        assert admin._link._timer is None


async def test_a_job_server_answers_probes(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address, heartbeat=SHORT) as admin:
        await admin.status()
        link = admin._link
        assert link is not None
        before = link._connection.bytes_received
        await eventually(lambda: link._connection.bytes_received > before and not link._probes)
        assert await admin.status() == []
        assert admin._link is link


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), "1"])
def test_a_heartbeat_that_means_nothing_is_refused(heartbeat: float) -> None:
    with pytest.raises((ValueError, TypeError), match="heartbeat"):
        Admin(heartbeat=heartbeat)


async def test_the_timer_ends_with_the_connection() -> None:
    async with scripted_server(lambda *_: for_ever()) as scripted:
        admin = Admin(scripted.address, heartbeat=SHORT)
        call = asyncio.create_task(admin.getpid())
        await eventually(lambda: admin.connected)
        link = admin._link
        assert link is not None
        await admin.aclose()
        await asyncio.wait([call])
        assert call.exception() is not None
        assert link._timer is not None
        assert link._timer.cancelled()
