"""Ending twice as many jobs costs twice as much: no job searches through all others when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from geartrain import Client
from tests.support.fake_client import connected
from tests.support.inside import channels_of
from tests.support.instruction_count import counted_steps

CleanUp = Callable[[Client, int], Awaitable[Callable[[], Awaitable[Any]]]]
"""Starts the given number of calls or jobs, and returns a function that ends them."""


async def leave_maps(client: Client, count: int) -> Callable[[], Awaitable[Any]]:
    maps = [client.map("f", [b"x"] * 2) for _ in range(count)]
    tasks = [asyncio.create_task(anext(results)) for results in maps]
    return lambda: cancel_all(tasks)


async def cancel_calls(client: Client, count: int) -> Callable[[], Awaitable[Any]]:
    tasks = [asyncio.create_task(client.do("f", timeout=60 + number)) for number in range(count)]
    return lambda: cancel_all(tasks)


async def cancel_jobs(client: Client, count: int) -> Callable[[], Awaitable[Any]]:
    jobs = [client.submit("f", unique="the same") for _ in range(count)]
    return lambda: cancel_all(jobs)


async def lose_jobs(client: Client, count: int) -> Callable[[], Awaitable[Any]]:
    jobs = [client.submit("f", retry_count=number % 2) for number in range(count)]
    first = asyncio.ensure_future(anext(client.map("f", [b""] * count, limit=count)))
    return lambda: lose(client, [*jobs, first])


async def lose(client: Client, futures: list[Any]) -> None:
    for channel in channels_of(client):
        if channel.session is not None:
            channel.session.fail(ConnectionResetError())
    await client.disconnect_all()
    await asyncio.gather(*futures, return_exceptions=True)


async def disconnect(client: Client, count: int) -> Callable[[], Awaitable[Any]]:
    jobs = [client.submit("f", timeout=60 + number) for number in range(count)]
    jobs += [client.submit("f", unique="the same") for _ in range(count)]
    drains = [asyncio.create_task(client.drain()) for _ in range(count)]
    return lambda: lose(client, [*jobs, *drains])


async def cancel_all(futures: list[Any]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(futures)


SCENARIOS: dict[str, CleanUp] = {
    "maps are left": leave_maps,
    "calls are cancelled": cancel_calls,
    "jobs are cancelled": cancel_jobs,
    "a connection is lost": lose_jobs,
    "the client is disconnected": disconnect,
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_ending_twice_as_many_costs_twice_as_much(scenario: CleanUp) -> None:
    counts = []
    for count in (200, 400):
        async with connected() as (client, _, _):
            end = await scenario(client, count)
            await asyncio.sleep(0)
            with counted_steps() as steps:
                await end()
            counts.append(steps.count)
    assert counts[0] > 200
    assert counts[1] < 2.5 * counts[0]
