"""Job servers that cannot be reached, or only at some of their addresses."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from geartrain import Admin, Client, JobServer, NoServersError, Worker, connect
from geartrain.connect import open_socket
from geartrain.connection import Connection
from geartrain.protocol.packets import PacketType
from geartrain.resolver import SocketAddress, parse_numeric
from tests.support.eventually import eventually
from tests.support.fake_server import FakePeer, fake_server
from tests.support.gearmand import free_port
from tests.support.host_names import hanging_names, names
from tests.support.inside import session_of, session_of_admin, session_of_client, session_of_worker
from tests.support.working import working

P = PacketType


@contextmanager
def black_hole() -> Iterator[int]:
    """
    A port on 127.0.0.1 whose connection attempts are dropped, as by a firewall.

    Linux drops a SYN if the backlog of the listening socket is full.
    """
    listener = socket.socket()
    fillers: list[socket.socket] = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(64):
            filler = socket.socket()
            fillers.append(filler)
            filler.settimeout(0.05)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            raise AssertionError("the backlog did not fill up")
        yield port
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


async def complete(peer: FakePeer, data: bytes = b"result") -> None:
    await peer.expect_job(b"H:1")
    peer.send(P.WORK_COMPLETE, b"H:1", data)


async def test_a_server_that_is_down_from_the_start_is_one_clear_error() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Client([address]) as client:
        with pytest.raises(NoServersError) as caught:
            await client.do("f")
        error = caught.value.errors[address]
        assert isinstance(error, ConnectionRefusedError)
        assert error.errno == errno.ECONNREFUSED
        assert str(caught.value).startswith(f"no job server could be reached for f: {address}: ")


async def test_a_connect_that_gets_no_reply_ends_after_connect_timeout() -> None:
    with black_hole() as port:
        async with Client([f"127.0.0.1:{port}"], connect_timeout=0.1) as client:
            with pytest.raises(NoServersError) as caught:
                await client.do("f")
            assert isinstance(caught.value.errors[f"127.0.0.1:{port}"], TimeoutError)
            assert "no answer from 127.0.0.1 in 0.1 s" in str(caught.value)


async def test_while_one_server_does_not_reply_the_others_continue() -> None:
    with black_hole() as port:
        async with (
            fake_server() as server,
            Client([f"127.0.0.1:{port}", server.address], balance="first", exceptions=False) as client,
        ):
            stuck = client.submit("f")
            client.set_job_servers([server.address, f"127.0.0.1:{port}"])
            job = client.submit("f")
            await complete(await server.accept())
            assert await job == b"result"
            assert not stuck.done()
            stuck.cancel()


async def test_disconnecting_ends_a_connect_that_gets_no_reply() -> None:
    with black_hole() as port:
        async with Client([f"127.0.0.1:{port}"], connect_timeout=None) as client:
            job = client.submit("f")
            await asyncio.sleep(0)
            await client.disconnect_all()
            assert "was disconnected" in str(job.exception())


async def test_a_lookup_that_hangs_ends_after_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_names(monkeypatch):
        async with Client(["jobs.example"], connect_timeout=0.05) as client:
            with pytest.raises(NoServersError) as caught:
                await client.do("f")
            assert isinstance(caught.value.errors["jobs.example:4730"], TimeoutError)
            assert "jobs.example:4730: the lookup of jobs.example took longer than 0.05 s" in str(caught.value)


async def test_a_host_name_that_does_not_exist_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with Client(["jobs.example"]) as client:
        with pytest.raises(NoServersError, match=r"jobs.example:4730: .*Name or service not known"):
            await client.do("f")


@pytest.mark.parametrize("dead", ["refuses", "drops"])
async def test_all_addresses_of_a_host_name_are_tried(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_server() as server:
        port = int(server.address.rpartition(":")[2])
        names(monkeypatch, "127.0.0.2", "127.0.0.1")  # nothing listens at the first
        if dead == "drops":

            async def dropping(address: SocketAddress, heartbeat: float | None) -> socket.socket:
                if address[1][0] == "127.0.0.2":
                    await asyncio.get_running_loop().create_future()
                return await open_socket(address, heartbeat)

            monkeypatch.setattr(connect, "open_socket", dropping)
        async with Client([f"jobs.example:{port}"], exceptions=False, connect_timeout=0.4) as client:
            job = client.submit("f")
            await complete(await server.accept())
            assert await job == b"result"
            assert job.handle is not None
            assert job.handle.server == f"jobs.example:{port}"


async def test_a_host_name_is_looked_up_again_at_each_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job server that moved to another address is found by its host name."""
    async with fake_server() as server:
        port = int(server.address.rpartition(":")[2])
        looked_up = names(monkeypatch, "127.0.0.2")
        async with Client([f"jobs.example:{port}"], exceptions=False) as client:
            with pytest.raises(NoServersError):
                await client.do("f")
            looked_up += names(monkeypatch, "127.0.0.1")
            job = client.submit("f")
            await complete(await server.accept())
            assert await job == b"result"
        assert looked_up == ["jobs.example"]


async def test_a_server_is_reached_over_ipv6() -> None:
    peers: asyncio.Queue[FakePeer] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: peers.put_nowait(FakePeer(*streams)), "::1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Client([f"[::1]:{port}"], exceptions=False) as client:
            job = client.submit("f")
            peer = await peers.get()
            await complete(peer)
            assert await job == b"result"
            assert str(job.handle) == f"[::1]:{port}//H:1"
            peer.writer.transport.abort()
    finally:
        server.close()
        await server.wait_closed()


async def test_a_connection_has_nodelay_and_keepalive() -> None:
    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.submit("f")
        await complete(await server.accept())
        await job
        sock = session_of(job).connection.socket
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.get_inheritable()


@asynccontextmanager
async def connected(kind: str, address: str, heartbeat: float | None) -> AsyncIterator[Connection]:
    """Connect a client, a worker or an admin client, and yield its connection."""
    if kind == "client":
        async with Client([address], heartbeat=heartbeat) as client:
            await client.ping()
            yield session_of_client(client).connection
    elif kind == "worker":
        worker = Worker([address], heartbeat=heartbeat)
        worker.function("f")(lambda job: b"")
        async with working(worker):
            await eventually(worker.ready)
            yield session_of_worker(worker).connection
    else:
        async with Admin(address, heartbeat=heartbeat) as admin:
            await admin.version()
            yield session_of_admin(admin).connection


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", ["client", "worker", "admin"])
async def test_keepalive_probes_a_silent_peer_at_the_interval_of_the_heartbeat(kind: str, host: str) -> None:
    async with JobServer(host, 0) as server:
        async with connected(kind, server.address, 2.5) as link:
            assert link.socket is not None
            assert link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert [
                link.socket.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ] == [3, 1, 3]
            # It would close the connection to a live peer that does not read for a while.
            assert link.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        async with connected(kind, server.address, None) as link:
            assert link.socket is not None
            assert link.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) > 3  # the system's default


@pytest.mark.parametrize("kind", ["client", "worker", "admin"])
async def test_an_address_with_a_scope_id_is_accepted(kind: str) -> None:
    async with JobServer("::1", 0) as server:
        port = server.address.rpartition(":")[2]
        async with connected(kind, f"[::1%lo]:{port}", 30.0) as link:
            assert link.socket is not None
            assert link.socket.getpeername()[0] == "::1"


async def test_the_scope_id_of_an_address_is_passed_to_the_system() -> None:
    # Linux rejects a link-local address without a scope, and has no route for one on the loopback interface.
    scoped, bare = parse_numeric("fe80::1%lo", 1), parse_numeric("fe80::1", 1)
    assert scoped is not None
    assert bare is not None
    with pytest.raises(OSError) as caught:
        await open_socket(bare, None)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        await open_socket(scoped, None)
    assert caught.value.errno != errno.EINVAL


async def test_a_server_that_closes_immediately_is_an_error_and_no_endless_loop() -> None:
    async with fake_server() as server, Client([server.address], exceptions=False) as client:
        job = client.submit("f")
        peer = await server.accept()
        peer.close()
        with pytest.raises(Exception, match=r"lost|closed the connection immediately"):
            await job
        assert server.connections == 1


async def test_jobs_and_requests_end_if_the_connect_task_is_cancelled_from_outside() -> None:
    """During shutdown an application may cancel all tasks and then use the client once more."""
    with black_hole() as port:
        async with Client([f"127.0.0.1:{port}"]) as client:
            job = client.submit("f")
            asking = asyncio.create_task(client.get_status(f"127.0.0.1:{port}//H:1"))
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task(), asking}:
                task.cancel()
            for waiting in (job, asking):
                with pytest.raises(NoServersError, match="was cancelled"):
                    await asyncio.wait_for(waiting, 4)
            assert client.statistics().servers[f"127.0.0.1:{port}"].state == "dead"
            again = client.submit("f")
            assert client.statistics().servers[f"127.0.0.1:{port}"].state == "connecting"
            again.cancel()


def eager(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Like ``asyncio.eager_task_factory``, which on 3.13.0 does not accept all arguments that uvloop passes."""
    return asyncio.Task(work, loop=loop, **{**options, "eager_start": True})


FACTORIES: dict[str, Any] = {"ordinary": None}
if sys.version_info >= (3, 12):
    FACTORIES["eager"] = eager  # a connect may then fail before its task is stored


@pytest.mark.parametrize("tasks", FACTORIES)
async def test_a_connect_that_fails_immediately_is_retried(tasks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(connect, "open_socket", fail)
    asyncio.get_running_loop().set_task_factory(FACTORIES[tasks])
    async with Client(["127.0.0.1:1"]) as client:
        for _ in range(2):
            with pytest.raises(NoServersError, match="unreachable"):
                await asyncio.wait_for(client.do("f"), 4)
