import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from geartrain.admin import Admin
from geartrain.errors import ConnectionLostError, LocalProtocolError, NoServersError, ServerError
from geartrain.handle import JobHandle
from geartrain.protocol.packets import PacketType
from geartrain.protocol.text_replies import FunctionStatus, PriorityStatus, WorkerStatus
from tests.support.eventually import eventually
from tests.support.gearmand import Gearmand, free_port
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire


@pytest.fixture
def wire(job_server: AnyJobServer) -> Iterator[Wire]:
    """A raw connection that acts as a client and a worker."""
    with Wire(job_server.port) as connection:
        yield connection


async def connected(admin: Admin, count: int) -> list[WorkerStatus]:
    """Return the connected peers once there are ``count``: gearmand notices closed connections late."""
    async with asyncio.timeout(10):
        rows = await admin.workers()
        while len(rows) != count:
            rows = await admin.workers()
    return rows


async def test_jobs_and_workers_of_a_function_are_counted(job_server: AnyJobServer, wire: Wire) -> None:
    async with Admin(job_server.address) as admin:
        assert await admin.status() == []
        wire.send(PacketType.CAN_DO, b"f")
        for _ in range(3):
            wire.submit(b"f", kind=PacketType.SUBMIT_JOB_BG)
        wire.submit(b"f", kind=PacketType.SUBMIT_JOB_HIGH_BG)
        wire.send(PacketType.GRAB_JOB)
        wire.receive()
        assert await admin.status() == [FunctionStatus("f", total=4, running=1, workers=1)]
        assert await admin.priority_status() == [PriorityStatus("f", high=0, normal=3, low=0, workers=1)]


async def test_workers_are_listed_with_their_functions(job_server: AnyJobServer, wire: Wire) -> None:
    wire.send(PacketType.SET_CLIENT_ID, b"my worker\n:")
    wire.send(PacketType.CAN_DO, b"a::b")
    wire.send(PacketType.CAN_DO, b"c")
    wire.nothing_more()
    async with Admin(job_server.address) as admin:
        rows = await connected(admin, 2)
    (worker,) = [row for row in rows if row.functions]
    assert worker.client_id == "my worker\n:"
    assert worker.ip == "127.0.0.1"
    assert set(worker.functions) == {"a::b", "c"}
    assert [(row.client_id, row.functions) for row in rows if row is not worker] == [
        ("-", ())
    ]  # the admin connection itself


async def test_jobs_and_their_uniques_are_listed(job_server: AnyJobServer, wire: Wire) -> None:
    stored = wire.submit(b"f", b"key", kind=PacketType.SUBMIT_JOB_BG).decode()
    awaited = wire.submit(b"f").decode()
    async with Admin(job_server.address) as admin:
        jobs = {job.handle: job for job in await admin.show_jobs()}
        assert jobs == {stored: (stored, 0, False, True), awaited: (awaited, 0, False, False)}
        assert sorted(row.unique for row in await admin.show_unique_jobs()) == ["", "key"]


async def test_a_job_whose_client_has_gone_is_listed_as_ignored(gearmand: Gearmand) -> None:
    with Wire(gearmand.port) as leaving:
        handle = leaving.submit(b"f").decode()
    async with Admin(gearmand.address) as admin:
        # gearmand handles the closed connection and our commands in different threads.
        while [job.ignored for job in await admin.show_jobs()] != [True]:
            pass
        assert await admin.show_jobs() == [(handle, 0, True, False)]


@pytest.mark.parametrize(
    "name", ["a\tb", "a\nb", "a\n.\nb", ".", "ERR x", "a b", "\udcff\udcfe", "ü", "7\t1\t2", "c\r"]
)
async def test_any_name_is_returned_unchanged(job_server: AnyJobServer, wire: Wire, name: str) -> None:
    wire.send(PacketType.CAN_DO, name.encode("utf-8", "surrogateescape"))
    wire.nothing_more()
    async with Admin(job_server.address) as admin:
        assert await admin.status() == [FunctionStatus(name, 0, 0, 1)]
        assert await admin.priority_status() == [PriorityStatus(name, 0, 0, 0, 1)]
        assert await admin.cancel_job("H:x:1") is False  # the answers still match the commands


# Each looks like the end of a list, an error, or an answer to the next command.
FORGERIES = [
    "ghost\t9\t9\t9\nx",
    ".",
    "a\n.",
    ".\na",
    "a\n.\nghost\t9\t9\t9",
    "ERR UNKNOWN_COMMAND x",
    "ERR X_Y\r",
    "OK 4711",
    ".\r",
    ".\n.",
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_no_unique_name_or_client_id_shifts_the_answers_to_later_calls(
    job_server: AnyJobServer, wire: Wire, forgery: str
) -> None:
    name = forgery.encode()
    wire.send(PacketType.SET_CLIENT_ID, name)
    wire.send(PacketType.CAN_DO, name)
    handles = {wire.submit(name, name, kind=PacketType.SUBMIT_JOB_BG).decode()}
    handles.add(wire.submit(name, b"other", kind=PacketType.SUBMIT_JOB_BG).decode())
    async with Admin(job_server.address) as admin:
        # The job server may still list a connection that was closed.
        while len(await admin.workers()) > 2:  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0)
        for _ in range(2):
            status, uniques, priorities, workers, jobs, cancelled = await asyncio.gather(
                admin.status(),
                admin.show_unique_jobs(),
                admin.priority_status(),
                admin.workers(),
                admin.show_jobs(),
                admin.cancel_job("H:x:1"),
            )
            assert cancelled is False
            assert {job.handle for job in jobs} == handles
            assert sorted("\n".join(row.unique for row in uniques).split("\n")) == sorted(
                [*forgery.split("\n"), "other"]
            )
            assert len(workers) == 2
            assert workers[0].client_id in (forgery, "-")
            if "ghost" not in forgery:  # a whole row within a name cannot be distinguished from a row
                assert status == [FunctionStatus(forgery, 2, 0, 1)]
                assert priorities == [PriorityStatus(forgery, 0, 2, 0, 1)]


@pytest.mark.parametrize("name", ["f", "prefix\tf", "ü", "\udcff", "."])
async def test_functions_are_created_and_dropped(job_server: AnyJobServer, name: str) -> None:
    async with Admin(job_server.address) as admin:
        await admin.create_function(name)
        assert [row.function for row in await admin.status()] == [name]
        await admin.drop_function(name)
        assert await admin.status() == []


async def test_an_err_answer_is_a_server_error_with_code_and_text(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address) as admin:
        with pytest.raises(ServerError, match=r"answered 'drop function' with 'ERR function not found'") as caught:
            await admin.drop_function("unknown")
        assert (caught.value.code, caught.value.text) == ("", "function not found")
        assert caught.value.server == job_server.address
        with pytest.raises(ServerError) as caught:
            await admin.shutdown(graceful=True)
        assert caught.value.code == "UNKNOWN_COMMAND"
        assert caught.value.text == "Unknown server commandshutdown"
        assert await admin.status() == []


SUBMISSIONS = (PacketType.SUBMIT_JOB_LOW_BG, PacketType.SUBMIT_JOB_BG, PacketType.SUBMIT_JOB_HIGH_BG)


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({"limit": 1}, SUBMISSIONS),
        ({"high": 0, "normal": 1, "low": 1}, SUBMISSIONS[:2]),
        ({"limit": 0}, ()),
    ],
)
async def test_a_queue_accepts_no_more_jobs_than_its_limit(
    job_server: AnyJobServer, wire: Wire, limits: dict[str, int], refused: tuple[PacketType, ...]
) -> None:
    async with Admin(job_server.address) as admin:
        await admin.create_function("f")
        await admin.set_max_queue("f", **limits)
    wire.submit(b"f", kind=PacketType.SUBMIT_JOB_HIGH_BG)
    for kind in SUBMISSIONS:
        wire.send(kind, b"f", b"", b"")
        assert wire.receive()[0] == (PacketType.ERROR if kind in refused else PacketType.JOB_CREATED)


async def test_a_queued_job_is_cancelled_by_its_handle_with_or_without_the_address(
    job_server: AnyJobServer, wire: Wire
) -> None:
    async with Admin(job_server.address) as admin:
        for form in (str, lambda h: f"{job_server.address}//{h}", lambda h: JobHandle(job_server.address, h)):
            handle = wire.submit(b"f")
            assert await admin.cancel_job(form(handle.decode())) is True
            wire.expect(PacketType.WORK_FAIL, handle)
        assert await admin.cancel_job("H:unknown:1") is False
        with pytest.raises(LocalProtocolError):
            await admin.cancel_job("H:x y:1")


async def test_simple_commands_are_answered(job_server: AnyJobServer, wire: Wire) -> None:
    async with Admin(job_server.address) as admin:
        assert wire.ask_line(b"getpid") == b"OK %d\n" % await admin.getpid()
        assert wire.ask_line(b"version") == f"OK {await admin.version()}\n".encode()
        assert await admin.verbose() == "ERROR"
        assert admin.job_server == job_server.address
        assert repr(admin) == f"<Admin {job_server.address}>"


async def test_a_long_list_is_complete(job_server: AnyJobServer, wire: Wire) -> None:
    names = {f"function-{number}" for number in range(5000)}
    for name in names:
        wire.send(PacketType.CAN_DO, name.encode())
    wire.nothing_more()
    async with Admin(job_server.address) as admin:
        rows = await admin.status()
        assert len(rows) == 5000
        assert {row.function for row in rows} == names
        assert max(len(worker.functions) for worker in await admin.workers()) == 5000


async def test_concurrent_calls_each_get_their_own_answer(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address) as admin:
        await admin.create_function("f")
        for _ in range(20):
            answers: tuple[Any, ...] = await asyncio.gather(
                admin.status(), admin.verbose(), admin.cancel_job("H:x:1"), admin.priority_status(), admin.verbose()
            )
            assert list(answers) == [[("f", 0, 0, 0)], "ERROR", False, [("f", 0, 0, 0, 0)], "ERROR"]
        assert await connected(admin, 1)  # all on one connection


async def test_a_cancelled_call_keeps_its_place_in_the_queue(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address) as admin:
        await admin.create_function("f")
        first, second = asyncio.create_task(admin.status()), asyncio.create_task(admin.verbose())
        third = asyncio.create_task(admin.drop_function("unknown"))
        await asyncio.sleep(0)  # the commands have been sent
        first.cancel()
        third.cancel()
        assert await second == "ERROR"
        assert await admin.cancel_job("H:x:1") is False
        assert first.cancelled()
        assert third.cancelled()


async def test_a_stopped_job_server_is_a_lost_connection_and_then_no_servers_error(job_server: AnyJobServer) -> None:
    async with Admin(job_server.address) as admin:
        call = asyncio.create_task(admin.status())
        await eventually(lambda: admin.connected)
        job_server.kill()
        await asyncio.wait([call])
        assert call.exception() is None or isinstance(call.exception(), ConnectionLostError)
        await eventually(lambda: not admin.connected)
        with pytest.raises(NoServersError):
            await admin.status()


# Invalid calls.


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\0b"])
async def test_an_invalid_name_is_rejected_before_connecting(name: str) -> None:
    admin = Admin(f"127.0.0.1:{free_port()}")
    for call in (admin.create_function, admin.drop_function, lambda n: admin.set_max_queue(n, 1)):
        with pytest.raises(LocalProtocolError, match="cannot contain"):
            await call(name)


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        # Job servers on one machine assign the same handles, so this may be a different job.
        ("127.0.0.1:4731//H:host:1", "belongs to another job server, not to 127.0.0.1:4730"),
        ("job:127.0.0.1:4731/H:host:1/f/u", "belongs to another job server, not to 127.0.0.1:4730"),
        ("127.0.0.1:x//H:host:1", "port must be a number"),
        ("127.0.0.1//", "a handle must be written like"),
    ],
)
async def test_an_invalid_or_foreign_handle_is_rejected(handle: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        await Admin("127.0.0.1:4730").cancel_job(handle)


@pytest.mark.parametrize(
    "limits",
    [{}, {"limit": 1, "high": 1}, {"high": 1}, {"high": 1, "normal": 1}, {"limit": -1}, {"limit": 2**31}],
)
async def test_invalid_limits_are_rejected(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"set_max_queue takes|a limit must be"):
        await Admin("127.0.0.1").set_max_queue("f", **limits)


def test_an_admin_can_be_created_outside_a_running_loop_and_without_a_port() -> None:
    assert Admin().job_server == "127.0.0.1:4730"
    assert Admin("gearmans://[::1]").job_server == "gearmans://[::1]:4730"


def test_an_admin_whose_constructor_raised_is_finalized_silently() -> None:
    with pytest.raises(ValueError, match="port"):
        Admin("a:b")
