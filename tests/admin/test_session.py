"""Connections that fail, stall, break the protocol or are closed, against scripted servers."""

import asyncio
import gc
import logging
import socket
import ssl
import struct
import warnings
from typing import NoReturn

import pytest

from geartrain.address import Address
from geartrain.admin import Admin
from geartrain.admin.session import AdminSession
from geartrain.errors import (
    ClientDisconnectedError,
    ConnectionLostError,
    LocalProtocolError,
    NoServersError,
    RemoteProtocolError,
    ServerError,
    ServerTimeoutError,
)
from geartrain.outage import Outage
from geartrain.protocol import text
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, free_port
from tests.support.scripted import scripted_server, sleep_forever

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

SHORT = 0.05  # seconds; tests wait for this timeout
LONG = 60.0  # seconds; no test waits this long


async def silent(reader: Reader, writer: Writer) -> None:
    """Neither read nor write, and keep the connection open."""
    await sleep_forever()


# Misbehaving servers.


async def test_an_answer_may_arrive_byte_by_byte() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        for byte in b"a\tb\t1\t2\t3\n.\t0\t0\t0\n.\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await sleep_forever()

    async with scripted_server(script) as server, Admin(server.address) as admin:
        assert await admin.status() == [("a\tb", 1, 2, 3), (".", 0, 0, 0)]


async def test_a_late_answer_after_a_timeout_is_discarded() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        if server.connections == 1:
            await reader.readline()
            writer.write(b"late\t1")
            await reader.read()  # until the client has closed
            writer.write(b"\t1\t1\n.\n")
        while await reader.readline():
            writer.write(b"new\t2\t2\t2\n.\n")

    async with scripted_server(script) as server, Admin(server.address, timeout=SHORT) as admin:
        with pytest.raises(ServerTimeoutError, match=r"; (6 bytes|nothing) was received"):
            await admin.status()
        admin.timeout = LONG
        assert await admin.status() == [("new", 2, 2, 2)]
        assert server.connections == 2


async def test_calls_queued_behind_a_timeout_fail_with_its_reason() -> None:
    async with scripted_server(silent) as server, Admin(server.address, timeout=SHORT) as admin:
        first, second = await asyncio.gather(admin.status(), admin.version(), return_exceptions=True)
        assert isinstance(first, ServerTimeoutError)
        assert isinstance(second, ConnectionLostError | ServerTimeoutError)
        assert "did not answer" in str(second)


@pytest.mark.parametrize("said", [b"", b"f\t1\t1\t1\n", b"f\t1"])
async def test_closing_before_the_complete_answer_is_a_lost_connection(said: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.write(said)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with scripted_server(script) as server, Admin(server.address) as admin:
        with pytest.raises(ConnectionLostError, match=r"was lost before the answer to 'status'") as caught:
            await admin.status()
        assert caught.value.server == server.address
        with pytest.raises(ConnectionLostError):
            await admin.status()
        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x01\0\x02\x02P",
        b"\0RES\0\0\0\x13\0\0\0\x03a\0b",
        b"OK\n\xff\xfe\n",
    ],
)
async def test_garbage_closes_the_connection_and_is_quoted(said: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.write(said)
        await sleep_forever()

    async with scripted_server(script) as server, Admin(server.address) as admin:
        with pytest.raises(RemoteProtocolError, match=f"{server.address} violated the text protocol"):
            await admin.workers()
        with pytest.raises(RemoteProtocolError):
            await admin.getpid()
        assert server.connections == 2


async def test_unsolicited_text_closes_the_connection_and_the_next_call_works() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.write(b"OK 1\n")
        await reader.readline()
        writer.write(b"OK 2\nOK 3\n" if server.connections == 1 else b"OK 4\n")
        await sleep_forever()

    async with scripted_server(script) as server, Admin(server.address) as admin:
        assert await admin.getpid() == 1
        assert await admin.getpid() == 2
        assert await admin.getpid() == 1  # on the second connection
        assert await admin.getpid() == 4


async def test_an_endless_list_is_cut_off_at_max_answer_size() -> None:
    sent = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await reader.readline()
        while True:
            writer.write(b"f\t1\t1\t1\n" * 1000)
            sent += 8000
            await writer.drain()

    async with (
        scripted_server(script) as server,
        Admin(server.address, timeout=LONG, max_answer_size=1_000_000) as admin,
    ):
        with pytest.raises(RemoteProtocolError, match="an answer is longer than 1000000 bytes"):
            await admin.status()


# Connecting.


async def test_an_unreachable_job_server_raises_no_servers_error() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Admin(address) as admin:
        for _ in range(2):
            with pytest.raises(NoServersError, match=f"{address} could not be reached") as caught:
                await admin.status()
            assert isinstance(caught.value.errors[address], ConnectionRefusedError)


async def test_a_host_name_that_cannot_be_encoded_raises_no_servers_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Address.parse`` rejects the names known to be invalid, but the system resolver may reject others."""

    async def refuse(_host: str, _port: int) -> NoReturn:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr("geartrain.connect.resolve", refuse)
    async with Admin("localhost") as admin:
        with pytest.raises(NoServersError):
            await admin.status()


async def test_an_invalid_host_name_is_rejected_immediately() -> None:
    with pytest.raises(ValueError, match=r"labels of 1 to 63 characters, got 'a\.\.b'"):
        Admin("a..b")


async def test_calls_share_one_attempt_to_connect_and_its_failure() -> None:
    async with (
        scripted_server(silent) as server,
        Admin(f"gearmans://{server.address}", connect_timeout=SHORT) as admin,
    ):
        errors = await asyncio.gather(*(admin.status() for _ in range(5)), return_exceptions=True)
        for error in errors:
            assert isinstance(error, NoServersError)
            assert isinstance(error.errors[admin.job_server], TimeoutError)
        assert server.connections == 1


async def test_cancelling_one_call_while_connecting_keeps_the_attempt_for_the_others() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        while await reader.readline():
            writer.write(b"OK 7\n")

    async with scripted_server(script) as server, Admin(server.address) as admin:
        first, second = asyncio.create_task(admin.getpid()), asyncio.create_task(admin.getpid())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 7
        assert server.connections == 1


async def test_aclose_ends_an_attempt_that_outlived_a_cancelled_call() -> None:
    async with scripted_server(silent) as server:
        admin = Admin(f"gearmans://{server.address}", connect_timeout=LONG)
        first, second = asyncio.create_task(admin.getpid()), asyncio.create_task(admin.getpid())
        await eventually(lambda: server.connections)
        first.cancel()
        await asyncio.wait([first])
        assert not second.done()
        await admin.aclose()
        with pytest.raises(ClientDisconnectedError):
            await second
        assert server.connections == 1


async def test_cancelling_the_last_call_while_connecting_cancels_the_attempt() -> None:
    async with scripted_server(silent) as server:
        admin = Admin(f"gearmans://{server.address}", connect_timeout=LONG)
        calls = [asyncio.create_task(admin.getpid()) for _ in range(2)]
        await eventually(lambda: server.connections)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        assert len(asyncio.all_tasks()) == 2  # this one and the script: the attempt has ended without aclose


async def test_tls_is_used_with_a_context_or_a_gearmans_address() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        first = await reader.readexactly(1)
        seen.append(first)

    seen: list[bytes] = []
    async with scripted_server(script) as server:
        for address, tls in ((server.address, ssl.create_default_context()), (f"gearmans://{server.address}", None)):
            async with Admin(address, tls=tls) as admin:
                with pytest.raises(NoServersError):
                    await admin.status()
        assert seen == [b"\x16", b"\x16"]  # a TLS handshake


# Closing.


async def test_aclose_ends_unanswered_calls_and_the_object_can_be_used_again() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            if line == b"getpid\r\n":
                writer.write(b"OK 7\n")

    async with scripted_server(script) as server:
        admin = Admin(server.address, timeout=LONG)
        assert await admin.getpid() == 7
        call = asyncio.create_task(admin.status())
        await asyncio.sleep(0)
        await admin.aclose()
        with pytest.raises(ClientDisconnectedError, match="was closed"):
            await call
        assert await admin.getpid() == 7
        await admin.aclose()
        await admin.aclose()


async def test_a_call_during_aclose_opens_a_new_connection() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        while await reader.readline():
            writer.write(b"OK 7\n")

    async with scripted_server(script) as server:
        admin = Admin(server.address)
        await admin.getpid()
        closing, call = asyncio.create_task(admin.aclose()), asyncio.create_task(admin.getpid())
        await closing
        assert await call == 7
        assert server.connections == 2
        await admin.aclose()


async def test_a_session_that_has_failed_accepts_no_more_commands() -> None:
    async with scripted_server(silent) as server:
        address = Address.parse(server.address)
        outage = Outage(server.address, logging.getLogger("geartrain.test"))
        session = await AdminSession.open(address, outage, timeout=LONG, tls=None, max_size=1000, heartbeat=None)
        cancelled, call = session.request(text.STATUS), session.request(text.VERSION)
        cancelled.cancel()
        session.fail(RemoteProtocolError("enough"))
        for answer in (session.request(text.GETPID), call):
            with pytest.raises(RemoteProtocolError, match="enough"):
                await answer
        assert session.is_closed
        await session.connection.wait_closed()


async def test_aclose_ends_an_attempt_to_connect() -> None:
    async with scripted_server(silent) as server:
        admin = Admin(f"gearmans://{server.address}", connect_timeout=LONG)
        call = asyncio.create_task(admin.status())
        await eventually(lambda: server.connections)
        await admin.aclose()
        with pytest.raises(ClientDisconnectedError):
            await call


@pytest.mark.parametrize("said", [b"OK\n", b"BYE\n", b""])
async def test_shutdown_accepts_an_answer_or_a_closed_connection(said: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        commands.append(await reader.readline())
        writer.write(said)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    commands: list[bytes] = []
    async with scripted_server(script) as server, Admin(server.address) as admin:
        await admin.shutdown()
        await eventually(lambda: not admin.connected)
        await admin.shutdown(graceful=True)
        assert commands == [b"shutdown\r\n", b"shutdown graceful\r\n"]


async def test_a_connection_reset_during_shutdown_is_an_error() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        reset = struct.pack("ii", 1, 0)  # close by RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    async with scripted_server(script) as server, Admin(server.address) as admin:
        with pytest.raises(ConnectionLostError, match="reset by peer") as caught:
            await admin.shutdown()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_an_unknown_error_of_cancel_job_is_raised() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.write(b"ERR UNKNOWN_ERROR\r\n")
        await sleep_forever()

    async with scripted_server(script) as server, Admin(server.address) as admin:
        with pytest.raises(ServerError) as caught:
            await admin.cancel_job("H:x:1")
        assert caught.value.code == "UNKNOWN_ERROR"


async def test_an_unclosed_admin_warns_and_closes_its_connection() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.write(b"OK 7\n")
        await reader.read()
        closed.append(True)

    closed: list[bool] = []
    async with scripted_server(script) as server:
        admin = Admin(server.address)
        await admin.getpid()
        forgotten = [admin]
        del admin
        with pytest.warns(ResourceWarning, match=f"<Admin {server.address}> was not closed"):
            forgotten.clear()
        await eventually(lambda: closed)


def test_an_unclosed_admin_warns_when_its_loop_is_closed(gearmand: Gearmand) -> None:
    admins = [Admin(gearmand.address)]
    with asyncio.Runner() as runner:
        runner.run(admins[0].getpid())
    with pytest.warns(ResourceWarning, match="was not closed"):
        admins.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the transport warns as well
        gc.collect()


def test_use_in_a_second_event_loop_is_an_error(gearmand: Gearmand) -> None:
    admin = Admin(gearmand.address)
    with asyncio.Runner() as one, asyncio.Runner() as two:
        assert one.run(admin.getpid()) == gearmand.pid
        for call in (admin.getpid, admin.aclose):
            with pytest.raises(LocalProtocolError, match="in use in another event loop"):
                two.run(call())
        one.run(admin.aclose())
        assert two.run(admin.getpid()) == gearmand.pid
        two.run(admin.aclose())


def test_an_admin_whose_loop_is_closed_can_be_used_in_another(gearmand: Gearmand) -> None:
    admin = Admin(gearmand.address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the transport warns that it was not closed
        for _ in range(3):
            with asyncio.Runner() as runner:
                assert runner.run(admin.getpid()) == gearmand.pid
        with asyncio.Runner() as runner:
            runner.run(admin.aclose())
        gc.collect()


async def test_a_paused_job_server_times_out_and_works_after_it_resumes(gearmand: Gearmand) -> None:
    async with Admin(gearmand.address, timeout=LONG) as admin:
        assert await admin.getpid() == gearmand.pid
        gearmand.pause()
        admin.timeout = SHORT
        with pytest.raises(
            ServerTimeoutError, match=rf"did not answer 'status' in {SHORT} s; nothing was received"
        ) as caught:
            await admin.status()
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.server, caught.value.seconds) == (gearmand.address, SHORT)
        gearmand.resume()
        admin.timeout = LONG
        assert await admin.getpid() == gearmand.pid


async def test_the_next_call_reconnects_to_a_restarted_job_server(gearmand: Gearmand) -> None:
    async with Admin(gearmand.address) as admin:
        before = await admin.getpid()
        gearmand.restart()
        await eventually(lambda: not admin.connected)
        assert await admin.getpid() == gearmand.pid != before
