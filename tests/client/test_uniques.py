"""Background jobs without a unique are sent with a generated one, which no other job has."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from itertools import islice
from typing import Any

import pytest

from geartrain import Client, Priority, Task
from geartrain.client import uniques
from geartrain.client.uniques import generate_uniques
from geartrain.protocol.client import MAX_DEFERRED_WORKLOAD
from geartrain.protocol.packets import PacketType
from tests.support.fake_client import connected
from tests.support.fake_server import fake_server

P = PacketType
LATER = 4_000_000_000  # in the year 2096


def test_a_unique_has_sixteen_letters_and_digits_and_is_new() -> None:
    first, second = list(islice(generate_uniques(), 10_000)), list(islice(generate_uniques(), 10_000))
    assert all(re.fullmatch(rb"[A-Za-z0-9]{16}", unique) for unique in first)
    assert len({*first, *second}) == 20_000
    assert len({unique[:10] for unique in (*first, *second)}) == 1, "all start with the prefix of the process"


def test_threads_generate_different_uniques() -> None:
    found: list[bytes] = []

    def generate() -> None:
        for _ in range(50):
            found.extend(islice(generate_uniques(), 10))

    threads = [threading.Thread(target=generate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 4000


def test_a_forked_process_has_another_prefix() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, next(generate_uniques()))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    ours = next(generate_uniques())
    assert len(theirs) == len(ours) == 16
    assert theirs[:10] != ours[:10]


def test_the_prefix_changes_after_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniques, "_BLOCKS", 2)
    monkeypatch.setattr(uniques, "_source", uniques._Source())
    found = [next(generate_uniques()) for _ in range(6)]
    assert len(set(found)) == 6
    assert len({unique[:10] for unique in found}) == 3


@pytest.mark.parametrize("size", [0, MAX_DEFERRED_WORKLOAD - 17, MAX_DEFERRED_WORKLOAD - 16, 100_000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": Priority.HIGH},
        {"priority": Priority.LOW, "timeout": 60},
        {"run_at": LATER},
        {"retry_count": 3},
        {"try_timeout": 60},
        {"on_complete": lambda _: None},
        {"on_complete": lambda _: None, "run_at": LATER},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
async def test_every_background_job_has_a_unique_that_its_handle_contains(options: dict[str, Any], size: int) -> None:
    async with connected() as (client, _, peer):
        workload = os.urandom(size)
        doing = asyncio.ensure_future(client.do_background("f", workload, **options))
        job = client.submit("f", workload, background=True, **options)
        mapping = client.map("f", [workload] * 2, background=True, **options)
        mapped = asyncio.ensure_future(anext(mapping))
        sent = []
        for number in range(4):
            function, unique, *epoch, received = await peer.expect_job(b"H:%d" % number)
            assert (function, received) == (b"f", workload)
            assert epoch == ([b"%d" % LATER] if "run_at" in options else [])
            sent.append(unique.decode())
        assert len(set(sent)) == 4
        assert all(re.fullmatch("[A-Za-z0-9]{16}", unique) for unique in sent)
        await asyncio.wait([job])
        handles = [job.handle, await doing, await mapped, await anext(mapping)]
        assert {(handle.function, handle.unique) for handle in handles if handle} == {("f", each) for each in sent}
        for handle in handles:
            assert handle is not None
            assert handle.unique == sent[int(handle.handle.removeprefix("H:"))]
        await mapping.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"background": True, "unique": ""},
        {"background": True, "unique": "", "on_complete": lambda _: None},
        {"background": True, "unique": "given"},
        {"background": True, "unique": "-", "run_at": LATER},
        {"background": False},
        {"background": False, "unique": None},
        {"background": False, "unique": ""},
        {"background": False, "unique": "given"},
    ],
    ids=lambda options: f"{options['background']} {options.get('unique', 'absent')!r} {len(options)}",
)
async def test_a_given_unique_is_sent_and_foreground_jobs_get_none(options: dict[str, Any]) -> None:
    async with connected() as (client, _, peer):
        given = options.get("unique") or ""
        job = client.submit("f", b"w", **options)
        mapping = client.map("f", [b"w"] * 2, **options)
        mapped = asyncio.ensure_future(anext(mapping))
        for number in range(3):
            assert (await peer.expect_job(b"H:%d" % number))[1] == given.encode()
        handle = await job.created() if not job.done() else job.handle
        assert handle is not None
        assert (handle.function, handle.unique) == ("f", given)
        if options["background"]:
            assert (await mapped).unique == given
        else:
            mapped.cancel()
            await asyncio.wait([mapped])
            job.cancel()
        await mapping.aclose()


def test_a_task_distinguishes_none_from_an_empty_unique() -> None:
    assert Task("f", background=True).unique is None
    assert Task("f", background=True, unique=None).unique is None
    assert Task("f", background=True, unique="").unique == ""
    assert Task("f", background=True).with_workload(b"w").unique is None


@pytest.mark.parametrize("how", ["do_background", "submit", "map"])
@pytest.mark.parametrize("trouble", ["refused", "lost"])
async def test_all_tries_of_a_submission_have_the_same_unique(how: str, trouble: str) -> None:
    async with connected() as (client, server, peer):
        mapping = client.map("f", [b"w"] * 2, background=True, retry_count=2)
        if how == "do_background":
            doing: asyncio.Future[Any] = asyncio.ensure_future(client.do_background("f", b"w", retry_count=2))
        elif how == "submit":
            doing = client.submit("f", b"w", background=True, retry_count=2, on_complete=lambda _: None)
        else:
            doing = asyncio.ensure_future(anext(mapping))
        sent = []
        for _ in range(2):
            sent.append((await peer.expect_job())[1])
            if trouble == "refused":
                peer.send(P.ERROR, b"QUEUE_FULL", b"no room")
                if how == "map":
                    assert (await peer.expect_job(b"H:other"))[1] != sent[0]
                    how = "the rest of the map"
            else:
                peer.close()
                peer = await server.accept()
                if how == "map":
                    again = [(await peer.expect_job(b"H:again"))[1] for _ in range(2)]
                    assert sent[0] in again
                    break
        else:
            assert await peer.expect_job(b"H:1") == [b"f", sent[0], b"w"]
        assert len(set(sent)) == 1
        await asyncio.wait([doing])
        if isinstance(handle := doing.result(), tuple):
            assert len(handle[3]) == 16
        await mapping.aclose()


async def test_a_generated_unique_does_not_choose_the_job_server() -> None:
    chosen: list[str | None] = []

    def balance(task: Task, servers: Any) -> str:
        chosen.append(task.unique)
        return str(servers[0])

    async with (
        fake_server() as one,
        fake_server() as other,
        Client([one.address, other.address], exceptions=False, balance=balance) as client,
    ):
        jobs = [client.submit("f", b"", background=True) for _ in range(20)]
        peer = await one.accept()
        for number in range(20):
            await peer.expect_job(b"H:%d" % number)
        await asyncio.wait(jobs)
        assert chosen == [None] * 20
        assert other.connections == 0
