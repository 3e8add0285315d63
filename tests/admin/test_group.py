import asyncio

import pytest

from geartrain.admin import Admin, AdminGroup
from geartrain.errors import GearmanError, LocalProtocolError, NoServersError, ServerError, ServerTimeoutError
from geartrain.protocol.packets import PacketType
from tests.support.gearmand import free_port
from tests.support.job_server import JobServerStarter
from tests.support.scripted import scripted_server, sleep_forever
from tests.support.wire import Wire


async def test_the_answers_are_keyed_by_address_in_the_given_order(
    start_job_server: JobServerStarter,
) -> None:
    one, two = start_job_server(), start_job_server()
    async with AdminGroup([two.address, one.address]) as group:
        with Wire(one.port) as wire:
            wire.submit(b"f", b"key", kind=PacketType.SUBMIT_JOB_BG)
        assert await group.status() == {one.address: [("f", 1, 0, 0)], two.address: []}
        assert await group.priority_status() == {one.address: [("f", 0, 1, 0, 0)], two.address: []}
        assert await group.show_unique_jobs() == {one.address: [("key",)], two.address: []}
        assert {server: len(rows) for server, rows in (await group.show_jobs()).items() if isinstance(rows, list)} == {
            one.address: 1,
            two.address: 0,
        }
        assert all(isinstance(rows, list) and rows for rows in (await group.workers()).values())
        assert list(await group.version()) == [two.address, one.address]
        assert list(group.admins) == [two.address, one.address]
        assert await group.admins[one.address].status() == [("f", 1, 0, 0)]


async def test_a_job_server_that_fails_does_not_affect_the_answers_of_others(
    start_job_server: JobServerStarter,
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sleep_forever()

    live = start_job_server().address
    dead = f"127.0.0.1:{free_port()}"
    async with scripted_server(silent) as stalled, AdminGroup([dead, live, stalled.address], timeout=60.0) as group:
        group.admins[stalled.address].timeout = 0.05
        answers = await group.ask(lambda admin: admin.drop_function("unknown"))
        assert {server: type(answer) for server, answer in answers.items()} == {
            dead: NoServersError,
            live: ServerError,
            stalled.address: ServerTimeoutError,
        }
        assert all(isinstance(answer, GearmanError) for answer in answers.values())
        assert (await group.status())[live] == []


async def test_any_call_can_be_made_to_all_job_servers(start_job_server: JobServerStarter) -> None:
    addresses = [start_job_server().address for _ in range(3)]
    async with AdminGroup(addresses) as group:
        assert await group.ask(lambda admin: admin.create_function("f")) == dict.fromkeys(addresses)
        assert await group.ask(Admin.status) == {address: [("f", 0, 0, 0)] for address in addresses}


async def test_a_name_like_the_end_of_a_listing_shifts_no_answer(start_job_server: JobServerStarter) -> None:
    one, two = start_job_server(), start_job_server()
    with Wire(one.port) as wire:
        for unique in (b"one", b".", b"ghost\t9\t9\t9"):
            wire.submit(b".", unique, kind=PacketType.SUBMIT_JOB_BG)
        async with AdminGroup([one.address, two.address]) as group:
            for _ in range(2):
                uniques, status = await asyncio.gather(group.show_unique_jobs(), group.status())
                assert status == {one.address: [(".", 3, 0, 0)], two.address: []}
                rows = uniques[one.address]
                assert isinstance(rows, list)
                assert sorted(row.unique for row in rows) == [".", "ghost\t9\t9\t9", "one"]


async def test_an_invalid_call_is_raised() -> None:
    async with AdminGroup(["127.0.0.1:1", "127.0.0.1:2"]) as group:
        with pytest.raises(LocalProtocolError, match="cannot contain"):
            await group.ask(lambda admin: admin.create_function("a b"))
        with pytest.raises(ValueError, match="a limit must be"):
            await group.ask(lambda admin: admin.set_max_queue("f", -1))


async def test_a_cancelled_call_is_cancelled_for_all_job_servers() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sleep_forever()

    async with (
        scripted_server(silent) as one,
        scripted_server(silent) as two,
        AdminGroup([one.address, two.address], timeout=None) as group,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await group.status()


async def test_an_empty_group_has_no_answers() -> None:
    async with AdminGroup([]) as group:
        assert await group.status() == {}


def test_a_job_server_that_is_listed_twice_is_queried_once() -> None:
    assert list(AdminGroup(["127.0.0.1", "127.0.0.1:4730"]).admins) == ["127.0.0.1:4730"]
    assert list(AdminGroup().admins) == ["127.0.0.1:4730"]
