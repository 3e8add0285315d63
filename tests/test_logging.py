"""What is logged at which level; workloads, results and passwords are never logged."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from geartrain import (
    Admin,
    Client,
    ConnectionLostError,
    GearmanError,
    JobExceptionError,
    JobFailedError,
    JobServer,
    JobTimeoutError,
    ServerError,
    TaskOptions,
    Worker,
    WorkerJob,
)
from geartrain.address import Address
from geartrain.protocol.packets import RESPONSE, PacketType
from tests.support import certificates
from tests.support.eventually import eventually
from tests.support.fake_server import FakePeer, fake_server
from tests.support.job_server import AnyJobServer
from tests.support.logs import other_warnings, warnings
from tests.support.wire import packet
from tests.support.working import working

LOGGERS = ("geartrain.client", "geartrain.worker", "geartrain.admin", "geartrain.server")
SECRET = "s3cret"


def make_worker(address: str, **options: Any) -> Worker:
    worker = Worker([address], **options)

    @worker.function("talk")
    async def talk(job: WorkerJob) -> str:
        job.send_status(1, 2)
        job.send_data(f"data {SECRET}")
        job.send_warning(f"warning {SECRET}")
        return f"result {SECRET}"

    @worker.function("fail")
    async def fail(job: WorkerJob) -> None:
        raise JobFailedError(SECRET)

    return worker


async def use_everything(address: str, tls: Any = None) -> None:
    """Do what an application with successful jobs does."""
    worker = make_worker(address, tls=tls)
    async with working(worker), Client([address], tls=tls) as client, Admin(address, tls=tls) as admin:
        job = client.submit("talk", f"workload {SECRET}", unique="u", timeout=30)
        assert [update async for update in job]
        assert await job
        handle = await client.do_background("talk", f"workload {SECRET}")
        await client.get_status(handle)
        await client.ping()
        assert [result async for result in client.map("talk", [SECRET] * 3)]
        await admin.status()
        await eventually(lambda: sum(server.completed for server in worker.statistics().servers.values()) == 5)


async def test_nothing_is_logged_by_default_if_everything_succeeds(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)  # of the root logger; the library's loggers have no level
    for name in LOGGERS:
        assert logging.getLogger(name).level == logging.NOTSET
        assert not logging.getLogger(name).handlers
    await use_everything(job_server.address)
    assert {record.name for record in caplog.records} >= {"geartrain.client", "geartrain.worker", "geartrain.admin"}
    assert warnings(caplog.records) == []


async def test_at_info_connections_are_logged_but_not_packets(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geartrain")
    await use_everything(job_server.address)
    pattern = (
        r"(connected to|closed the connection to|lost the connection to|disconnected from) \S+(: .*)?"
        r"|geartrain \S+: worker .*|function (talk|fail): coroutine|stopping: no job is running"
        r"|stopped after .* s; jobs: 5 completed.*"
    )
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("geartrain.")]
    assert len(lines) >= 4
    assert [line for line in lines if not re.fullmatch(pattern, line)] == []


@pytest.mark.parametrize("tls", [False, True])
async def test_debug_logs_each_packet_but_no_workload(tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "geartrain")
    context = certificates.for_client() if tls else None
    async with JobServer(port=0, tls=certificates.for_server() if tls else None, handle_prefix="H:me") as server:
        await use_everything(server.address, context)
    size = len(f"workload {SECRET}")
    for name, lines in {
        "client": (
            "> OPTION_REQ exceptions",
            "< OPTION_RES exceptions",
            f"> SUBMIT_JOB talk u [{size} bytes]",
            "< JOB_CREATED H:me:1",
            "< WORK_STATUS H:me:1 1 2",
            "< WORK_DATA H:me:1 [11 bytes]",
            "< WORK_WARNING H:me:1 [14 bytes]",
            "< WORK_COMPLETE H:me:1 [13 bytes]",
            "> SUBMIT_JOB_BG talk ",  # with a generated unique
            "> GET_STATUS H:me:2",
            "> ECHO_REQ [14 bytes]",
            "< ECHO_RES [14 bytes]",
        ),
        "worker": (
            "> CAN_DO talk",
            "> GRAB_JOB_UNIQ",
            f"< JOB_ASSIGN_UNIQ H:me:1 talk u [{size} bytes]",
            "> WORK_STATUS H:me:1 1 2",
            "> WORK_DATA H:me:1 [11 bytes]",
            "> WORK_WARNING H:me:1 [14 bytes]",
            "> WORK_COMPLETE H:me:1 [13 bytes]",
            "< NO_JOB",
            "> PRE_SLEEP",
        ),
        "admin": (r"> 'status\r\n'", "< ["),
        "server": (
            f"< SUBMIT_JOB talk u [{size} bytes]",
            f"> JOB_ASSIGN_UNIQ H:me:1 talk u [{size} bytes]",
            "> WORK_COMPLETE H:me:1 [13 bytes]",
            r"< 'status\r'",
        ),
    }.items():
        messages = [record.getMessage() for record in caplog.records if record.name == f"geartrain.{name}"]
        for line in lines:
            assert any(line in message for message in messages), (name, line)
    assert SECRET not in caplog.text


# Protocol violations.


BROKEN = {
    "too few arguments": packet(PacketType.WORK_COMPLETE, SECRET.encode(), magic=RESPONSE),
    "an unknown type": packet(77, SECRET.encode(), magic=RESPONSE),
    "a packet for a job server": packet(PacketType.SUBMIT_JOB, b"f", b"", SECRET.encode()),
    "a packet for a worker": packet(PacketType.JOB_ASSIGN, b"H:1", b"f", SECRET.encode(), magic=RESPONSE),
    "text": b"lead " + SECRET.encode() * 10 + b"\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_protocol_errors_do_not_show_workloads_either(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "geartrain")
    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.submit("f", SECRET)
        peer = await server.accept()
        await peer.expect_job()
        peer.write(BROKEN[name])
        peer.close()
        with pytest.raises(ConnectionLostError) as caught:
            await job
        assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


async def test_the_job_server_does_not_log_a_malformed_submission(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "geartrain")
    async with JobServer(port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", Address.parse(server.address).port)
        writer.write(packet(PacketType.SUBMIT_JOB, b"f", SECRET.encode()))
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert "SUBMIT_JOB needs 3 arguments" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address", ["gearmans://me:s3cret@host:4730", "s3cret@host", "me:s3cret@[::1]", "http://s3cret@h"]
)
def test_a_password_in_an_address_is_rejected_and_not_repeated(address: str) -> None:
    with pytest.raises(ValueError, match=r"must not contain a user or password, got \.\.\.@") as caught:
        Address.parse(address)
    assert SECRET not in str(caught.value)


# Raised or logged, not both.


class End(NamedTuple):
    """
    How a job fails.

    Attributes:
        error: The error that is raised.
        answer: What the job server sends or does.
        options: The options of the task.
    """

    error: type[GearmanError]
    answer: Callable[[FakePeer], None]
    options: TaskOptions


CREATED = packet(PacketType.JOB_CREATED, b"H:1", magic=RESPONSE)
FAIL = packet(PacketType.WORK_FAIL, b"H:1", magic=RESPONSE)
THROW = packet(PacketType.WORK_EXCEPTION, b"H:1", b"ValueError: x", magic=RESPONSE)
ENDS = {
    "lost": End(ConnectionLostError, FakePeer.close, {}),
    "failed": End(JobFailedError, lambda peer: peer.write(CREATED + FAIL), {}),
    "raised": End(JobExceptionError, lambda peer: peer.write(CREATED + THROW), {}),
    "refused": End(ServerError, lambda peer: peer.send(PacketType.ERROR, b"QUEUE_ERROR", b"full"), {}),
    "late": End(JobTimeoutError, lambda peer: None, {"timeout": 0.05}),
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_client_does_not_log_what_it_raises(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    end = ENDS[name]
    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.submit("f", **end.options)
        peer = await server.accept()
        await peer.expect_job()
        end.answer(peer)
        with pytest.raises(end.error):
            await job
        peer.close()
    assert other_warnings(caplog.records) == []


async def test_an_admin_client_does_not_log_what_it_raises(
    job_server: AnyJobServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Admin(job_server.address) as admin:
        with pytest.raises(ServerError):
            await admin.shutdown()
        with pytest.raises(ServerError):
            await admin.drop_function("unknown")
    async with fake_server() as server, Admin(server.address) as admin:
        query = asyncio.ensure_future(admin.version())
        (await server.accept()).close()
        with pytest.raises(ConnectionLostError):
            await query
    assert other_warnings(caplog.records) == []


async def test_the_job_server_does_not_warn_of_protocol_violations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Anyone who can connect could fill the log with them."""
    caplog.set_level(logging.INFO)
    async with JobServer(port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", Address.parse(server.address).port)
        writer.write(packet(77))
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert "unknown packet type 77" in caplog.text
    assert warnings(caplog.records) == []
