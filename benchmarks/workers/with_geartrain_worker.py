"""Our worker, which returns each job's workload. usage: with_geartrain_worker.py asyncio|uvloop PORT"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from geartrain import Worker, WorkerJob

RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}


async def main(port: str) -> None:
    worker = Worker([f"127.0.0.1:{port}"], concurrency=100)

    @worker.function("echo")
    async def echo(job: WorkerJob) -> bytes:
        return job.workload

    await worker.run()


if __name__ == "__main__":
    RUN[sys.argv[1]](main(sys.argv[2]))
