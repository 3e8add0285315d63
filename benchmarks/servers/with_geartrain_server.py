"""Our job server. usage: with_geartrain_server.py asyncio|uvloop -p PORT"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from geartrain import JobServer

RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}


async def main(port: int) -> None:
    async with JobServer(port=port):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    RUN[sys.argv[1]](main(int(sys.argv[3])))
