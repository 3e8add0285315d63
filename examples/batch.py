"""Many jobs: results in order, jobs in the order in which they end, and equal work done once."""

import asyncio

from geartrain import Client, JobServer, Worker, WorkerJob


async def square(job: WorkerJob) -> str:
    number = int(job.workload)
    await asyncio.sleep(0.001 * (5 - number % 5))
    return str(number * number)


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address], concurrency=10)
        worker.function("square")(square)
        async with worker:
            squares = [int(result) async for result in client.map("square", map(str, range(100)), limit=20)]
            print(sum(squares))

            jobs = [client.submit("square", str(number)) for number in range(5)]
            async for job in client.as_completed(jobs):
                print(job.task.workload.decode(), "->", job.result().decode())

            # With a unique, the job server merges equal jobs: the work runs once, and every submission gets the result.
            same = [client.submit("square", "12", unique="-") for _ in range(3)]
            print({job.result() for job in same if await job})


asyncio.run(main())
