"""The errors that an application gets if a worker fails or is slow, or if there is no job server."""

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
        raise JobFailedError("the divisor must be positive")  # the client has it as the reason
    return str(dividend / divisor)  # any other exception is sent as WORK_EXCEPTION


async def ask(client: Client, workload: str, function: str = "divide") -> None:
    try:
        print((await client.do(function, workload, timeout=0.5)).decode())
    except JobExceptionError as error:
        print("the worker raised", error.data.decode())
    except JobFailedError as error:
        print("the worker gave up:", error.reason)
    except JobTimeoutError as error:
        print("no result within", error.seconds, "seconds")
    except NoServersError as error:
        print("no job server could be reached:", *error.errors)


async def main() -> None:
    async with JobServer(port=0) as server, Client([server.address]) as client:
        worker = Worker([server.address])
        worker.function("divide")(divide)
        async with worker:
            await ask(client, "1 2")
            await ask(client, "1 -2")
            await ask(client, "1 0")
            await ask(client, "", function="no worker for this")
        address = server.address
    async with Client([address]) as client:  # the job server is gone
        await ask(client, "1 2")


# The failures above are intended, so do not log them: exceptions of functions, and the unreachable job server.
logging.getLogger("geartrain").setLevel(logging.CRITICAL)
asyncio.run(main())
