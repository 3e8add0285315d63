"""A job server, a worker and a client in one process: nothing else needs to be installed or running."""

import asyncio

from geartrain import Client, JobServer, Worker, WorkerJob


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address])

        @worker.function
        async def reverse(job: WorkerJob) -> bytes:
            return job.workload[::-1]

        async with worker:
            print(await client.do("reverse", b"Hello, Gearman!"))


asyncio.run(main())
