"""TLS failures: one clear error within connect_timeout, and nothing leaked on either side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from geartrain import (
    Admin,
    Client,
    ConnectionLostError,
    JobServer,
    NoServersError,
    RemoteProtocolError,
    Worker,
    WorkerJob,
)
from geartrain.server import tls_acceptor
from tests.support import certificates
from tests.support.eventually import eventually
from tests.support.inside import handshakes_of
from tests.support.logs import other_warnings
from tests.support.scripted import scripted_server, sleep_forever

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
LOCAL = "127.0.0.1"


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail a test that logs anything but an outage at the default level."""
    yield
    gc.collect()  # an unretrieved exception is logged when its future is deleted
    assert not other_warnings(caplog.get_records("call"))


@asynccontextmanager
async def tls_server(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[JobServer]:
    """Run a job server with TLS."""
    async with JobServer(port=0, tls=tls or certificates.for_server(), **options) as server:
        yield server


async def connect_error(address: str, *, tls: ssl.SSLContext | None, connect_timeout: float = 5.0) -> str:
    """Return the error of client and admin client for an unreachable job server, without address and function."""
    async with Client([address], tls=tls, connect_timeout=connect_timeout) as client:
        with pytest.raises(NoServersError) as of_client:
            await client.do("f")
    async with Admin(address, tls=tls, connect_timeout=connect_timeout) as admin:
        with pytest.raises(NoServersError) as of_admin:
            await admin.status()
    (error,) = of_client.value.errors.values()
    assert str(of_client.value) == f"no job server could be reached for f: {address}: {error}"
    assert str(of_admin.value) == f"{address} could not be reached: {error}"
    return str(error)


def refusing(tls: ssl.SSLContext) -> Callable[[Reader, Writer], Awaitable[None]]:
    """Return a script with OpenSSL's own handshake, which sends an alert before it closes the connection."""

    async def script(reader: Reader, writer: Writer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tunnel = tls.wrap_bio(incoming, outgoing, server_side=True)
        failed = False
        while not failed:
            incoming.write(await reader.read(65536))
            try:
                tunnel.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                failed = True
            writer.write(outgoing.read())
        writer.write_eof()
        await reader.read()

    return script


# Verification.

CONTEXTS: dict[str, tuple[Callable[[], ssl.SSLContext], Callable[[], ssl.SSLContext | None], str]] = {
    "a wrong CA": (
        lambda: certificates.for_server(certificates.leaf(LOCAL, authority=certificates.STRANGER)),
        certificates.for_client,
        f"the certificate of {LOCAL} is not accepted: unable to get local issuer certificate",
    ),
    "a CA that the system does not know": (
        certificates.for_server,
        lambda: None,
        f"the certificate of {LOCAL} is not accepted: unable to get local issuer certificate",
    ),
    "a wrong name": (
        lambda: certificates.for_server(certificates.leaf("jobs.example")),
        certificates.for_client,
        f"the certificate of {LOCAL} is not accepted: IP address mismatch, certificate is not valid for '{LOCAL}'",
    ),
    "an expired certificate": (
        lambda: certificates.for_server(certificates.expired(LOCAL)),
        certificates.for_client,
        f"the certificate of {LOCAL} is not accepted: certificate has expired",
    ),
}


@pytest.mark.parametrize("case", CONTEXTS)
async def test_an_invalid_certificate_is_one_clear_error(case: str) -> None:
    server_side, client_side, message = CONTEXTS[case]
    async with tls_server(server_side()) as server:
        assert await connect_error(server.address, tls=client_side()) == message


async def test_the_error_keeps_its_type_and_attributes() -> None:
    async with (
        tls_server(certificates.for_server(certificates.expired(LOCAL))) as server,
        Client([server.address], tls=certificates.for_client()) as client,
    ):
        with pytest.raises(NoServersError) as caught:
            await client.do("f")
    error = caught.value.errors[server.address]
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 10  # X509_V_ERR_CERT_HAS_EXPIRED


async def test_no_common_tls_version_is_one_clear_error() -> None:
    old, new = certificates.for_server(), certificates.for_client()
    old.maximum_version, new.minimum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    async with scripted_server(refusing(old)) as server:
        assert await connect_error(server.address, tls=new) == f"{LOCAL} refused TLS: protocol version"


async def serve(job: WorkerJob) -> bytes:
    return job.workload


async def test_a_worker_keeps_trying_if_the_certificate_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "geartrain.worker")
    async with tls_server() as server:
        worker = Worker([server.address])
        worker.function("f")(serve)
        running = asyncio.create_task(worker.run())
        await eventually(lambda: caplog.text.count("is not accepted") > 1)
        worker.stop()
        await running


# Client certificates.


async def test_a_client_with_a_certificate_is_served_if_one_is_required() -> None:
    tls = certificates.for_client(certificates.leaf("client.example"))
    async with tls_server(certificates.for_server(mutual=True)) as server, Admin(server.address, tls=tls) as admin:
        assert await admin.status() == []


@pytest.mark.parametrize(
    ("certificate", "version", "message"),
    [
        (None, ssl.TLSVersion.TLSv1_2, f"{LOCAL} refused TLS: handshake failure"),
        (None, ssl.TLSVersion.TLSv1_3, "the peer requires a client certificate, but got none"),
        (
            certificates.leaf("client.example", authority=certificates.STRANGER),
            ssl.TLSVersion.TLSv1_3,
            "the peer does not trust our certificate (unknown CA)",
        ),
    ],
)
async def test_a_client_without_a_valid_certificate_gets_a_clear_error(
    certificate: Any, version: ssl.TLSVersion, message: str
) -> None:
    """In TLS 1.3 the client's handshake is complete before the server has verified its certificate."""
    tls = certificates.for_client(certificate)
    tls.maximum_version = version
    async with (
        scripted_server(refusing(certificates.for_server(mutual=True))) as server,
        Client([server.address], tls=tls) as client,
    ):
        with pytest.raises((NoServersError, ConnectionLostError)) as caught:
            await asyncio.wait_for(client.do("f"), 5)
        assert message in str(caught.value)


async def test_our_job_server_rejects_a_client_without_a_certificate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with (
        tls_server(certificates.for_server(mutual=True)) as server,
        Client([server.address], tls=certificates.for_client()) as client,
    ):
        with pytest.raises(ConnectionLostError) as caught:
            await asyncio.wait_for(client.do("f"), 5)
        assert caught.value.outcome == "unacknowledged"
        await eventually(lambda: "refused: the peer sent no certificate" in caplog.text)


# Only one side uses TLS.


async def test_a_plaintext_client_on_a_tls_port_gets_a_clear_error() -> None:
    async with tls_server() as server:
        address = server.address.removeprefix("gearmans://")
        async with Client([address]) as client:
            with pytest.raises((ConnectionLostError, RemoteProtocolError)):
                await asyncio.wait_for(client.do("f"), 5)
        async with Admin(address) as admin:
            with pytest.raises((ConnectionLostError, RemoteProtocolError)):
                await asyncio.wait_for(admin.status(), 5)


async def test_the_job_server_logs_at_info_why_it_rejected_a_plaintext_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    async with tls_server() as server:
        _, port = server.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(LOCAL, int(port))
        writer.write(b"status\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        await eventually(lambda: "refused: the peer does not speak TLS on this port" in caplog.text)


async def test_a_tls_client_on_a_plaintext_port_gets_a_clear_error() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.write(b"ERR UNKNOWN_COMMAND Unknown+server+command\r\n")
        await sleep_forever()

    async with scripted_server(script) as server:
        message = await connect_error(server.address, tls=certificates.for_client())
        assert message == f"{LOCAL} does not speak TLS on this port"


async def test_a_server_that_disconnects_during_the_handshake_is_one_clear_error() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.read(10_000)
        writer.close()

    async with scripted_server(script) as server:
        message = await connect_error(server.address, tls=certificates.for_client())
        assert message == f"{LOCAL} hung up during the TLS handshake; it may not speak TLS on this port"


# Stalled handshakes.


async def silent(reader: Reader, writer: Writer) -> None:
    await sleep_forever()


async def test_a_handshake_that_stalls_ends_after_connect_timeout() -> None:
    """A plaintext job server behaves like this, too: it waits for the end of a line of text."""
    async with scripted_server(silent) as server:
        message = await connect_error(server.address, tls=certificates.for_client(), connect_timeout=0.1)
        assert message == f"no TLS handshake with {LOCAL} in 0.1 s; it may not speak TLS on this port"


async def test_closing_the_client_aborts_a_stalled_handshake() -> None:
    async with scripted_server(silent) as server:
        async with Client([f"gearmans://{server.address}"], connect_timeout=None) as client:
            job = client.submit("f")
            await eventually(lambda: server.connections)
        assert "was disconnected" in str(job.exception())


async def stalled_peer(server: JobServer) -> asyncio.StreamWriter:
    """Connect to a job server, and send the start of a handshake."""
    _, port = server.address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(LOCAL, int(port))
    writer.write(b"\x16\x03\x01")
    return writer


async def test_closing_the_job_server_aborts_stalled_handshakes() -> None:
    async with tls_server() as server:
        writers = [await stalled_peer(server) for _ in range(3)]
        await eventually(lambda: handshakes_of(server) == 3)
    for writer in writers:
        writer.transport.abort()


async def test_closing_the_job_server_aborts_a_handshake_that_has_not_started() -> None:
    async with tls_server() as server:
        writer = await stalled_peer(server)
        while not handshakes_of(server):  # noqa: ASYNC110  # not one iteration later, when it has started
            await asyncio.sleep(0)
    writer.transport.abort()


async def test_the_job_server_serves_others_during_a_stalled_handshake() -> None:
    async with tls_server() as server, Admin(server.address, tls=certificates.for_client()) as admin:
        writer = await stalled_peer(server)
        await eventually(lambda: handshakes_of(server) == 1)
        assert await admin.status() == []
        writer.transport.abort()
        await eventually(lambda: not handshakes_of(server))


async def test_the_job_server_aborts_a_stalled_handshake(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geartrain.server")
    monkeypatch.setattr(tls_acceptor, "_TIMEOUT", 0.05)
    async with tls_server() as server:
        writer = await stalled_peer(server)
        await eventually(lambda: "SSL handshake is taking longer than" in caplog.text)
        writer.transport.abort()


async def test_a_peer_without_a_file_descriptor_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def dup(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    caplog.set_level(logging.INFO, "geartrain.server")
    async with tls_server() as server, Admin(server.address, tls=certificates.for_client()) as admin:
        with monkeypatch.context() as full:
            full.setattr("os.dup", dup)
            with pytest.raises(NoServersError):
                await admin.status()
        assert "Too many open files" in caplog.text
        assert await admin.status() == []


async def test_peers_that_reset_the_connection_immediately_leave_nothing() -> None:
    async with tls_server() as server, Admin(server.address, tls=certificates.for_client()) as admin:
        _, port = server.address.rsplit(":", 1)
        for _ in range(20):  # without yielding to the loop: the server accepts connections that are already reset
            with socket.create_connection((LOCAL, int(port))) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert await admin.status() == []
        await eventually(lambda: not handshakes_of(server))


async def test_an_application_that_cancels_all_tasks_aborts_handshakes_too() -> None:
    async with tls_server() as server:
        writer = await stalled_peer(server)
        while not handshakes_of(server):  # noqa: ASYNC110  # not one iteration later, when it has started
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await eventually(lambda: not handshakes_of(server))
        writer.transport.abort()


async def test_tls_works_over_ipv6() -> None:
    tls = certificates.for_server(certificates.leaf("::1"))
    async with (
        JobServer("::1", 0, tls=tls) as server,
        Admin(server.address, tls=certificates.for_client()) as admin,
    ):
        assert await admin.status() == []


async def test_closing_the_job_server_does_not_wait_for_peers_to_confirm_the_end_of_tls() -> None:
    async with tls_server() as server:
        _, port = server.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(LOCAL, int(port), ssl=certificates.for_client())
        writer.write(b"version\r\n")
        assert (await reader.readline()).startswith(b"OK")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await server.aclose()
        writer.transport.abort()
