"""
The server side of a soak, run as a separate process: job servers, and proxies in front of them that inject faults.

``python -m tests.soak.faults SEED DIRECTORY ADDRESS``; the address is that of another job server, which is already
running. It prints one JSON value per line: first the list of the proxies' addresses, then each fault as it begins. It
exits when standard input is closed.
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
OPTIONS: Final = ("-j", "1")  # a job that is lost with its worker is not re-run, so that runs can be checked
SHORT: Final = 0.5  # seconds; shorter than a heartbeat
LONG: Final = 5.0  # seconds; longer than a heartbeat


class Site(NamedTuple):
    """A job server and the wire to it; ``gearmand`` is ``None`` for the server that this process did not start."""

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


def print_json(value: object) -> None:
    print(json.dumps(value), flush=True)


async def inject_faults(sites: list[Site], rng: random.Random) -> None:
    """Inject one fault after the other, until cancelled."""
    while True:
        await asyncio.sleep(rng.uniform(*CALM))
        name, site = rng.choice(list(FAULTS)), rng.choice(sites)
        print_json(name)
        await FAULTS[name](site, rng)
        await site.proxy.heal()


async def wait_for_end_of_input() -> None:
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
        print_json([site.proxy.address for site in sites])
        injecting = asyncio.create_task(inject_faults(sites, random.Random(seed)))
        waiting = asyncio.create_task(wait_for_end_of_input())
        await asyncio.wait([injecting, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (injecting, waiting):
            task.cancel()
        await asyncio.wait([injecting, waiting])
        if not injecting.cancelled():
            injecting.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
