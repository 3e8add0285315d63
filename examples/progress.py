"""Two ways to receive the updates of a job while it runs: iterating it, and callbacks."""

import asyncio

from geartrain import Client, JobData, JobProgress, JobServer, Task, Worker, WorkerJob


async def spell(job: WorkerJob) -> None:
    """Send the workload back letter by letter."""
    letters = job.workload.decode()
    for number, letter in enumerate(letters, 1):
        job.send_data(letter.encode())
        job.send_status(number, len(letters))


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address])
        worker.function("spell")(spell)
        async with worker:
            job = client.submit("spell", "gear")
            async for update in job:
                match update:
                    case JobData(data):
                        print("letter", data.decode())
                    case JobProgress() as progress:
                        print(f"{progress.fraction:.0%}")
            await job

            await client.add_task(
                Task(
                    "spell",
                    "train",
                    on_created=lambda handle: print("accepted"),
                    on_data=lambda data: print("letter", data.decode()),
                    on_complete=lambda result: print("done"),
                )
            )


asyncio.run(main())
