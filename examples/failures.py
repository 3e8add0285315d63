"""What an application sees when a worker fails, is slow, or when there is no job server at all."""

import asyncio
import logging

from geartrain import (
    Client,
    JobExceptionError,
    JobFailedError,
    JobServer,
    JobTimeoutError,
    NoServersError,
    Worker,
    WorkerJob,
)


async def divide(job: WorkerJob) -> str:
    dividend, divisor = map(int, job.workload.split())
    if divisor < 0:
        raise JobFailedError("only what is positive divides")  # goes out as WORK_FAIL
    return str(dividend / divisor)  # what else is raised goes out as WORK_EXCEPTION


async def ask(client: Client, workload: str, function: str = "divide") -> None:
    try:
        print((await client.do(function, workload, timeout=0.5)).decode())
    except JobExceptionError as error:
        print("the worker raised", error.data.decode())
    except JobFailedError:
        print("the worker gave up")
    except JobTimeoutError as error:
        print("no answer in", error.seconds, "seconds")
    except NoServersError as error:
        print("no job server of", len(error.errors))


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address])
        worker.function("divide")(divide)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await ask(client, "1 2")
            await ask(client, "1 -2")
            await ask(client, "1 0")
            await ask(client, "", function="nobody does this")
            worker.stop()
        address = server.address
    async with Client([address]) as client:  # the job server is gone
        await ask(client, "1 2")


# What is logged here is meant to happen: functions that raise, with the traceback, and a job server that is gone.
logging.getLogger("geartrain").setLevel(logging.CRITICAL)
asyncio.run(main())
