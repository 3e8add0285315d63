"""An unreachable job server is reported once, and once more when it is available again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from geartrain import (
    Admin,
    AdminGroup,
    Client,
    ConnectionLostError,
    GearmanError,
    NoServersError,
    ServerTimeoutError,
    Worker,
)
from geartrain.outage import Outage
from tests.support.eventually import eventually
from tests.support.fake_server import fake_server
from tests.support.gearmand import Gearmand, free_port
from tests.support.logs import warnings
from tests.support.scripted import scripted_server, sleep_forever
from tests.support.working import working


def worker_of(address: str) -> Worker:
    worker = Worker([address])
    worker.function("f")(lambda job: b"done")
    return worker


def recoveries(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if " again after " in message]


def test_an_outage_is_one_warning_and_one_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage("a:1", logging.getLogger("geartrain.test"))
    outage.connected()
    outage.connection_lost(None, 10.0)
    for attempt in range(3):
        outage.connect_failed(OSError("refused"), 11.0 + attempt)
        outage.connected()  # and closed again immediately
    outage.end(15.5)
    outage.end(16.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "connected to a:1"),
        ("WARNING", "lost the connection to a:1: closed by the job server"),
        ("INFO", "connected to a:1 again after 5.5 s"),
    ]


async def test_a_worker_without_its_job_server_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with working(worker_of(f"127.0.0.1:{free_port()}")):
        await eventually(lambda: caplog.text.count("cannot connect to") > 2)
    assert len(warnings(caplog.records)) == 1


async def test_a_worker_warns_once_of_a_job_server_that_closes_every_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_server() as server, working(worker_of(server.address)):
        for _ in range(3):
            (await server.accept()).close()
        await eventually(lambda: caplog.text.count("lost the connection to") > 1)
    assert len(warnings(caplog.records)) == 1
    assert not recoveries(caplog)


async def test_a_client_without_its_job_server_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Client([f"127.0.0.1:{free_port()}"]) as client:
        for _ in range(3):
            with pytest.raises(NoServersError):
                await client.do("f")
    assert len(warnings(caplog.records)) == 1


async def test_client_and_worker_report_a_job_server_that_is_killed_and_its_return(
    gearmand: Gearmand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with working(worker_of(gearmand.address)), Client([gearmand.address], dead_time=0.01) as client:
        assert await client.do("f") == b"done"
        assert not warnings(caplog.records)
        gearmand.kill()
        await eventually(lambda: len(warnings(caplog.records)) == 2)
        with pytest.raises(GearmanError):
            await client.do("f")
        gearmand.start()
        assert await client.do("f", retry_count=5) == b"done"
        await eventually(lambda: len(recoveries(caplog)) == 2)
        assert len(warnings(caplog.records)) == 2


async def test_connections_closed_on_purpose_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        fake_server() as server,
        fake_server() as other,
        Client([server.address], exceptions=False) as client,
        working(worker_of(server.address)),
    ):
        job = client.submit("f")
        await eventually(lambda: server.connections == 2)
        client.set_job_servers([other.address])
        job.cancel()
        await eventually(lambda: list(client.statistics().servers) == [other.address])
    assert not warnings(caplog.records)


async def test_a_query_to_a_job_server_outside_the_list_causes_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Client([]) as client:
        with pytest.raises(NoServersError):
            await client.get_status(f"127.0.0.1:{free_port()}//H:1")
    assert not warnings(caplog.records)


async def test_a_client_that_cannot_count_workers_warns_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geartrain.client.worker_counts.FRESH_FOR", 0.0)
    async with Client([f"127.0.0.1:{free_port()}"]) as client:
        for _ in range(2):
            with pytest.raises(NoServersError):
                await client.workers_for("f")
        with pytest.raises(NoServersError):
            await client.do("f")
    assert len(warnings(caplog.records)) == 1


async def test_cancelling_a_job_of_a_job_server_outside_the_list_causes_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Client([]) as client:
        with pytest.raises(NoServersError):
            await client.cancel(f"127.0.0.1:{free_port()}//H:1")
    assert not warnings(caplog.records)


async def test_an_admin_client_without_its_job_server_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "geartrain.admin")
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    async with AdminGroup(addresses) as group:
        for _ in range(3):
            await group.status()
    assert sorted(message.split(":")[0] for message in warnings(caplog.records)) == ["cannot connect to 127.0.0.1"] * 2


async def test_an_admin_client_reports_a_job_server_that_is_killed_and_its_return(
    gearmand: Gearmand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geartrain.admin")
    async with Admin(gearmand.address) as admin:
        await admin.status()
        gearmand.kill()
        await eventually(lambda: not admin.connected)
        for _ in range(2):
            with pytest.raises(NoServersError):
                await admin.status()
        assert warnings(caplog.records) == [f"lost the connection to {gearmand.address}: closed by the job server"]
        gearmand.start()
        await admin.status()
        await admin.status()
        assert len(recoveries(caplog)) == 1
    assert len(warnings(caplog.records)) == 1


async def test_an_admin_client_warns_once_of_a_job_server_that_does_not_reply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "geartrain.admin")
    async with scripted_server(lambda *_: sleep_forever()) as server, Admin(server.address, timeout=0.02) as admin:
        for _ in range(3):
            with pytest.raises(ServerTimeoutError):
                await admin.status()
    assert len(warnings(caplog.records)) == 1
    assert not recoveries(caplog)


async def test_an_admin_client_warns_once_of_a_server_that_is_not_a_job_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await sleep_forever()

    caplog.set_level(logging.INFO, "geartrain.admin")
    async with scripted_server(talk_http) as server, Admin(server.address) as admin:
        for _ in range(3):
            with pytest.raises(GearmanError):
                await admin.workers()
    assert len(warnings(caplog.records)) == 1
    assert not recoveries(caplog)


@pytest.mark.parametrize("answer", [b"OK\n", b""])
async def test_a_requested_shutdown_is_not_an_outage(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)

    caplog.set_level(logging.INFO, "geartrain.admin")
    async with scripted_server(end) as server, Admin(server.address) as admin:
        await admin.shutdown()
        await eventually(lambda: not admin.connected)
    assert not warnings(caplog.records)


async def test_a_lost_connection_after_a_refused_shutdown_is_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"ERR unknown_command Unknown+server+command\n")
        await reader.readline()

    caplog.set_level(logging.INFO, "geartrain.admin")
    async with scripted_server(refuse) as server, Admin(server.address) as admin:
        with pytest.raises(GearmanError):
            await admin.shutdown()
        with pytest.raises(ConnectionLostError):
            await admin.status()
    assert len(warnings(caplog.records)) == 1
