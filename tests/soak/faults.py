"""
The other side of a soak, in a process of its own: job servers, and proxies in front of them that have faults.

``python -m tests.soak.faults SEED DIRECTORY ADDRESS``; the address is that of one more job server, which it does not
start. It prints one JSON value a line: first the list of the proxies' addresses, then each fault as it begins. It ends
when standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.gearmand import Gearmand
from tests.support.proxy import Proxy, Way

CALM: Final = (0.3, 1.5)  # seconds between two faults, at least and at most
OPTIONS: Final = ("-j", "1")  # a job that is lost with its worker is given to no other one, so runs can be judged
SHORT: Final = 0.5  # seconds; a heartbeat outlives it
LONG: Final = 5.0  # seconds; no heartbeat does


class Site(NamedTuple):
    """A job server and the wire to it; ``gearmand`` is missing where somebody else's is meant."""

    proxy: Proxy
    gearmand: Gearmand | None


async def cut(site: Site, rng: random.Random) -> None:
    site.proxy.cut()


async def cut_inside(site: Site, rng: random.Random) -> None:
    site.proxy.cut_after(rng.choice((Way.TO_SERVER, Way.TO_CLIENT)), rng.randint(1, 200))


async def reset(site: Site, rng: random.Random) -> None:
    await site.proxy.reset()


async def refuse(site: Site, rng: random.Random) -> None:
    await site.proxy.refuse()
    await site.proxy.reset()
    await asyncio.sleep(SHORT)


async def play_dead(site: Site, rng: random.Random) -> None:
    await site.proxy.play_dead()
    await site.proxy.reset()
    await asyncio.sleep(SHORT)


async def stall(site: Site, rng: random.Random) -> None:
    site.proxy.stall(rng.choice((Way.TO_SERVER, Way.TO_CLIENT, Way.BOTH)))
    await asyncio.sleep(rng.choice((SHORT, SHORT, LONG)))


async def delay(site: Site, rng: random.Random) -> None:
    site.proxy.delay(rng.uniform(0.01, 0.1))
    await asyncio.sleep(SHORT)


async def split(site: Site, rng: random.Random) -> None:
    site.proxy.split()
    await asyncio.sleep(SHORT)


async def restart(site: Site, rng: random.Random) -> None:
    if site.gearmand is not None:
        await asyncio.to_thread(site.gearmand.restart)


FAULTS: Final[Mapping[str, Callable[[Site, random.Random], Awaitable[None]]]] = {
    "cut": cut,
    "cut inside": cut_inside,
    "reset": reset,
    "refuse": refuse,
    "play dead": play_dead,
    "stall": stall,
    "delay": delay,
    "split": split,
    "restart": restart,
}


def tell(words: object) -> None:
    print(json.dumps(words), flush=True)


async def befall(sites: list[Site], rng: random.Random) -> None:
    """Have one fault after the other, until cancelled."""
    while True:
        await asyncio.sleep(rng.uniform(*CALM))
        name, site = rng.choice(list(FAULTS)), rng.choice(sites)
        tell(name)
        await FAULTS[name](site, rng)
        await site.proxy.heal()


async def end_of_input() -> None:
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    pipe.close()


async def main(seed: str, directory: str, address: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sites = []
        for _ in range(2):
            gearmand = stack.enter_context(Gearmand(Path(directory), OPTIONS))
            sites.append(Site(await stack.enter_async_context(Proxy(gearmand.address)), gearmand))
        sites.append(Site(await stack.enter_async_context(Proxy(address)), None))
        tell([site.proxy.address for site in sites])
        befalling = asyncio.create_task(befall(sites, random.Random(seed)))
        ending = asyncio.create_task(end_of_input())
        await asyncio.wait([befalling, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in (befalling, ending):
            task.cancel()
        await asyncio.wait([befalling, ending])
        if not befalling.cancelled():
            befalling.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
