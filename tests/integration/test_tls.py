"""Features over TLS: through stunnel to gearmand, and with our own job server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from geartrain import Admin, Client, ConnectionLostError, JobHandle, JobServer, NoServersError, Worker, WorkerJob
from geartrain.tls import default_tls
from tests.support import certificates
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer
from tests.support.stunnel import stunnel

KINDS = ("gearmand behind stunnel", "geartrain")


@asynccontextmanager
async def tls_server(kind: str, gearmand: Gearmand, directory: Path, *, mutual: bool = False) -> AsyncIterator[str]:
    """Run a job server with TLS, and yield its address."""
    if kind == "geartrain":
        async with JobServer(port=0, tls=certificates.for_server(mutual=mutual)) as server:
            yield server.address
    else:
        with stunnel(directory, gearmand.address, mutual=mutual) as address:
            yield address


@asynccontextmanager
async def worker_of(address: str, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    worker = Worker([address], tls=tls)

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        job.send_status(1, 2)
        return job.workload[::-1]

    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        yield
        worker.stop()


@pytest.mark.parametrize("mutual", [False, True], ids=["one certificate", "mutual"])
@pytest.mark.parametrize("kind", KINDS)
async def test_client_worker_and_admin_work_over_tls(
    kind: str, mutual: bool, gearmand: Gearmand, tmp_path: Path
) -> None:
    tls = certificates.for_client(certificates.leaf("client.example") if mutual else None)
    async with (
        tls_server(kind, gearmand, tmp_path, mutual=mutual) as address,
        worker_of(address, tls),
        Client([address], tls=tls) as client,
        Admin(address, tls=tls) as admin,
    ):
        big = bytes(range(256)) * 20_000  # 5 MB: many TLS records, and more than a socket accepts at once
        assert await client.do("reverse", big, timeout=20) == big[::-1]
        workloads = [str(number) for number in range(100)]
        results = [result async for result in client.map("reverse", workloads)]
        assert results == [workload.encode()[::-1] for workload in workloads]
        handle = await client.do_background("reverse", b"later")
        assert JobHandle.parse(str(handle)) == handle
        assert handle.server == address
        await client.get_status(str(handle))
        assert [function.function for function in await admin.status()] == ["reverse"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_whose_authority_the_system_trusts_needs_only_its_address(
    kind: str, gearmand: Gearmand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, _ = certificates.files(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))  # OpenSSL's variable for the system's trusted authorities
    default_tls.cache_clear()
    try:
        async with (
            tls_server(kind, gearmand, tmp_path) as address,
            worker_of(address, None),
            Client([address]) as client,
            Admin(address) as admin,
        ):
            assert await client.do("reverse", b"abc", timeout=20) == b"cba"
            assert await admin.version()
    finally:
        default_tls.cache_clear()


async def test_a_wrong_authority_is_rejected_through_stunnel(gearmand: Gearmand, tmp_path: Path) -> None:
    async with tls_server(KINDS[0], gearmand, tmp_path) as address, Client([address]) as client:
        with pytest.raises(NoServersError, match=r"the certificate of 127\.0\.0\.1 is not accepted: "):
            await client.do("reverse")


async def test_stunnel_rejects_a_client_without_a_certificate(gearmand: Gearmand, tmp_path: Path) -> None:
    async with (
        tls_server(KINDS[0], gearmand, tmp_path, mutual=True) as address,
        Client([address], tls=certificates.for_client()) as client,
    ):
        with pytest.raises(ConnectionLostError) as caught:
            await client.do("reverse", timeout=20)
        assert caught.value.outcome == "unacknowledged"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_plaintext_client_on_a_tls_port_is_disconnected(kind: str, gearmand: Gearmand, tmp_path: Path) -> None:
    async with (
        tls_server(kind, gearmand, tmp_path) as address,
        Client([address.removeprefix("gearmans://")]) as client,
    ):
        with pytest.raises(ConnectionLostError) as caught:
            await client.do("reverse", timeout=20)
        assert caught.value.outcome == "unacknowledged"


async def test_a_tls_client_on_a_plaintext_port_gets_a_clear_error_from_both_servers(job_server: AnyJobServer) -> None:
    """A job server parses the handshake as text; depending on the bytes it replies, disconnects, or does nothing."""
    async with Client([f"gearmans://{job_server.address}"], connect_timeout=0.2) as client:
        with pytest.raises(NoServersError, match=r"not speak TLS on this port"):
            await client.do("reverse")
