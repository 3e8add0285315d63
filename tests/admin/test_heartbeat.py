"""An idle admin connection is probed, and replaced when the job server does not answer."""

from __future__ import annotations

import asyncio

import pytest

from geartrain import Admin, AdminGroup
from tests.support.eventually import eventually
from tests.support.inside import session_of_admin
from tests.support.job_server import AnyJobServer
from tests.support.logs import warnings
from tests.support.scripted import scripted_server, sleep_forever

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

SHORT = 0.05  # seconds


class Server:
    """Answers every line with ``OK 1`` as long as ``answers`` is true."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.answers = True

    async def serve(self, reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            self.lines.append(line.strip())
            if self.answers:
                writer.write(b"OK 1\n")


async def test_an_unresponsive_idle_connection_is_closed_and_the_next_call_opens_another(
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


async def test_an_idle_connection_stays_open_while_probes_are_answered() -> None:
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


async def test_a_connection_with_an_unanswered_call_is_not_probed() -> None:
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
        assert not session_of_admin(admin).has_timer


async def test_a_job_server_answers_probes(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address, heartbeat=SHORT) as admin:
        await admin.status()
        session = session_of_admin(admin)
        before = session.connection.bytes_received
        await eventually(lambda: session.connection.bytes_received > before and not session._probes)
        assert await admin.status() == []
        assert session_of_admin(admin) is session


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), "1"])
def test_an_invalid_heartbeat_is_rejected(heartbeat: float) -> None:
    with pytest.raises((ValueError, TypeError), match="heartbeat"):
        Admin(heartbeat=heartbeat)


async def test_closing_the_connection_stops_the_timer() -> None:
    async with scripted_server(lambda *_: sleep_forever()) as scripted:
        admin = Admin(scripted.address, heartbeat=SHORT)
        call = asyncio.create_task(admin.getpid())
        await eventually(lambda: admin.connected)
        session = session_of_admin(admin)
        assert session.has_timer
        await admin.aclose()
        await asyncio.wait([call])
        assert call.exception() is not None
        assert not session.has_timer
